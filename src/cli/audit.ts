import type { Command } from 'commander';
import { snakeCase } from '../api/snake-case.ts';
import type { Repair } from '../audit/repairs.ts';
import type { AuditReport, InvariantReport } from '../audit/types.ts';
import type { Config } from '../config-schema.ts';
import { ConfigError } from '../errors.ts';
import { command, integer, withAction } from './command.ts';
import type { Database } from '../postgres/database.ts';
import { EXIT, usageFault } from './failure.ts';
import { table } from './output.ts';

interface AuditOptions {
  readonly workerLog?: readonly string[];
  readonly clockSkewMs: number;
}

/** `tollgate audit`: every invariant over all stores. */
export function auditCommand(): Command {
  const audit = withEvidence(
    command({
      name: 'audit',
      summary: 'check every invariant over all stores and change nothing; exits 1 if one is broken',
      examples: [
        'tollgate audit',
        'tollgate audit --worker-log gpu-1.jsonl --worker-log gpu-2.jsonl --json audit.json',
      ],
    }),
  );
  return withAction<AuditOptions>(audit, async ({ options, output, loadConfig }) => {
    const config = await loadConfig(['servers.redisUrl', 'servers.amqpUrl', 'servers.mongoUrl']);
    requireDatabase(config);
    const report = await runOver(config, options, async (found) => found);
    output.result(snakeCase(report), textOf(report));
    return report.verdict === 'broken' ? EXIT.failed : EXIT.ok;
  });
}

/** `tollgate repair --dry-run`: what would make good what the audit finds. */
export function repairCommand(): Command {
  const repair = withEvidence(
    command({
      name: 'repair',
      summary: 'audit, and show what would make good each finding; history is never edited',
      examples: ['tollgate repair --dry-run', 'tollgate repair --dry-run --json repairs.json'],
    }).option('--dry-run', 'show only; there is no other way: what is to be done you type yourself'),
  );
  return withAction<AuditOptions & { dryRun?: true }>(repair, async ({ options, output, loadConfig }) => {
    if (!options.dryRun)
      usageFault(
        '--dry-run',
        'is needed: repair shows compensations and makes none; type those you agree with',
      );
    const config = await loadConfig(['servers.redisUrl', 'servers.amqpUrl', 'servers.mongoUrl']);
    requireDatabase(config);
    const [{ repairsOf }, { JobRecords }, { systemClock }] = await Promise.all([
      import('../audit/repairs.ts'),
      import('../ledger/job-records.ts'),
      import('../clock.ts'),
    ]);
    const repairs = await runOver(config, options, (report, database) =>
      repairsOf(report, new JobRecords(database), systemClock.nowMs()),
    );
    output.result(snakeCase({ repairs }), repairs.length === 0 ? 'Nothing to repair.' : repairText(repairs));
  });
}

function repairText(repairs: readonly Repair[]): string {
  return repairs
    .map(({ invariant, subject, found, what, command: line }) =>
      [
        `${invariant}  ${subject}`,
        `  found: ${found}`,
        `  ${what}`,
        ...(line === null ? [] : [`  $ ${line}`]),
      ].join('\n'),
    )
    .join('\n\n');
}

/** What both commands may be given to judge by. */
function withEvidence(target: Command): Command {
  return target
    .option(
      '--worker-log <file>',
      "a worker's own log, to prove that nothing ran before its lock; may be repeated",
      files,
    )
    .option(
      '--clock-skew-ms <n>',
      'how far the clocks of workers and PostgreSQL may be apart',
      integer(0, 3_600_000),
      0,
    );
}

function files(path: string, before: readonly string[] = []): readonly string[] {
  return [...before, path];
}

/** One of three logins will do. */
function requireDatabase({ servers }: Config): void {
  const { postgresAuditorUrl, postgresAdminUrl, postgresUrl } = servers;
  if (postgresAuditorUrl === null && postgresAdminUrl === null && postgresUrl === '')
    throw new ConfigError(['servers.postgresAuditorUrl: missing, set TOLLGATE_POSTGRES_AUDITOR_URL']);
}

/** Runs the audit, and hands what it found to `then` while its connection to PostgreSQL is open. */
async function runOver<T>(
  config: Config,
  options: AuditOptions,
  then: (report: AuditReport, database: Database) => Promise<T>,
): Promise<T> {
  const [{ openAuditStores, auditBounds }, { runAudit }, { schemaFault }, { createLog }] = await Promise.all([
    import('../audit/open-stores.ts'),
    import('../audit/run.ts'),
    import('./stores.ts'),
    import('../ops/log.ts'),
  ]);
  const { workerLog = [], clockSkewMs } = options;
  const { stores, database, close } = await openAuditStores(config, createLog({ level: 'silent' }));
  try {
    const bounds = auditBounds(config);
    return await then(await runAudit(stores, { bounds, workerLogs: workerLog, clockSkewMs }), database);
  } catch (error) {
    throw schemaFault(error);
  } finally {
    await close();
  }
}

const VERDICTS: Readonly<Record<InvariantReport['verdict'], string>> = {
  ok: 'ok',
  broken: 'BROKEN',
  waiting: 'waiting',
  not_provable: 'not provable here',
  not_checked: 'not checked',
};

const SUMMARY: Readonly<Record<AuditReport['verdict'], string>> = {
  ok: 'All invariants hold.',
  broken: 'An invariant is broken.',
  not_provable: 'Nothing is broken; not everything could be proved.',
};

/** One line per invariant, then what is wrong or missing, then the verdict. */
function textOf({ verdict, invariants, ms }: AuditReport): string {
  const rows = invariants.map(({ id, title, verdict: stands, checked, broken }) => [
    VERDICTS[stands],
    id,
    broken === 0 ? String(checked) : `${broken} of ${checked}`,
    title,
  ]);
  const details = invariants
    .filter(({ note, examples }) => note !== null || examples.length > 0)
    .flatMap(({ id, note, examples }) => [
      note === null ? `${id}:` : `${id}: ${note}`,
      ...examples.map((example) => `  ${example.id}: ${example.what}`),
    ]);
  const head = ['verdict', 'invariant', 'checked', 'what it says'];
  const summary = `${SUMMARY[verdict]} (${Math.round(ms)} ms)`;
  return [table([head, ...rows]), ...(details.length > 0 ? ['', ...details] : []), '', summary].join('\n');
}
