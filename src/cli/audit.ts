import type { Command } from 'commander';
import { snakeCase } from '../api/snake-case.ts';
import type { AuditReport, InvariantReport } from '../audit/types.ts';
import type { Config } from '../config-schema.ts';
import { ConfigError } from '../errors.ts';
import { command, integer, withAction } from './command.ts';
import { EXIT } from './failure.ts';
import { table } from './output.ts';

interface AuditOptions {
  readonly workerLog?: readonly string[];
  readonly clockSkewMs: number;
}

/** `tollgate audit`: every invariant over all stores. */
export function auditCommand(): Command {
  const audit = command({
    name: 'audit',
    summary: 'check every invariant over all stores and change nothing; exits 1 if one is broken',
    examples: [
      'tollgate audit',
      'tollgate audit --worker-log gpu-1.jsonl --worker-log gpu-2.jsonl --json audit.json',
    ],
  })
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
  return withAction<AuditOptions>(audit, async ({ options, output, loadConfig }) => {
    const config = await loadConfig(['servers.redisUrl', 'servers.amqpUrl', 'servers.mongoUrl']);
    requireDatabase(config);
    const report = await runOver(config, options);
    output.result(snakeCase(report), textOf(report));
    return report.verdict === 'broken' ? EXIT.failed : EXIT.ok;
  });
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

async function runOver(config: Config, options: AuditOptions): Promise<AuditReport> {
  const [{ openAuditStores, auditBounds }, { runAudit }, { schemaFault }, { createLog }] = await Promise.all([
    import('../audit/open-stores.ts'),
    import('../audit/run.ts'),
    import('./stores.ts'),
    import('../ops/log.ts'),
  ]);
  const { workerLog = [], clockSkewMs } = options;
  const { stores, close } = await openAuditStores(config, createLog({ level: 'silent' }));
  try {
    return await runAudit(stores, { bounds: auditBounds(config), workerLogs: workerLog, clockSkewMs });
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
