import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { auditBounds, openAuditStores } from '../audit/open-stores.ts';
import { runAudit } from '../audit/run.ts';
import type { AuditReport } from '../audit/types.ts';
import { systemClock } from '../clock.ts';
import { digestKeyOf } from '../contracts/canonical.ts';
import type { AccountStatement } from '../ledger/accounts.ts';
import { createLog } from '../ops/log.ts';
import { Database } from '../postgres/database.ts';
import { migrate } from '../postgres/migrate.ts';
import type { Stack } from '../stack/stack.ts';
import { ensureCollections } from '../traces/collections.ts';
import { Clients } from './clients.ts';
import { fetchMetrics } from './daemon-metrics.ts';
import { Generator } from './generator.ts';
import { type Parts, startParts } from './parts.ts';
import { type Prediction, PredictionLog } from './predictions.ts';
import { Progress, type Terminal } from './progress.ts';
import { Prompts } from './prompts.ts';
import { forgetLogins, type Logins, provision } from './provision.ts';
import type { Scenario } from './scenario.ts';
import { type DemoSettings, settingsOf } from './settings.ts';
import { areCreditsExact, type CreditFlow, type DemoReport, quantile } from './summary.ts';
import { differencesOf, type Evidence, talliesOf } from './verdict.ts';
import { Witnesses } from './witnesses.ts';
import { type World, worldOf } from './world.ts';

/** An operator waits for one thing at a time; the demo asks for a few at once. */
const CONNECTIONS_MAX = 4;
/** After the last answer, what the coordinator still holds has this long to be put away. */
const IDLE_MS_MAX = 15_000;
const POLL_MS = 100;

/** Servers that answer, ours or given, and how long it took to get there. */
export type DemoServers = Pick<Stack, 'urls' | 'timings' | 'started' | 'adopt'>;

/** What every step of a run uses. */
interface Run {
  readonly servers: DemoServers;
  readonly settings: DemoSettings;
  readonly world: World;
  readonly scenario: Scenario;
  readonly folder: string;
  readonly db: Database;
  readonly witnesses: Witnesses;
}

/** What sending the load left behind. */
interface Sent {
  readonly generator: Generator;
  readonly predictions: readonly Prediction[];
  readonly before: readonly AccountStatement[];
  readonly runMs: number;
  readonly cpuMs: number;
  /** Wall-clock of the beginning. */
  readonly beganAtMs: number;
}

/**
 * Puts a Tollgate together on servers that run, sends it the load and compares. Every part's log goes to `folder`. `loadOf` lays
 * the load out for the names of this run; `origin` says in the report where it came from. Everything started here has ended when the promise settles.
 * The steps and the progress are shown on `terminal`.
 */
export async function runDemo(
  servers: DemoServers,
  folder: string,
  loadOf: (world: World) => Scenario,
  origin: string,
  terminal: Terminal,
): Promise<DemoReport> {
  const tell = (line: string) => void terminal.write(`${line}\n`);
  const readyMs = systemClock.monotonicMs();
  await using ending = new AsyncDisposableStack();
  const settings = settingsOf(servers);
  const world = worldOf(settings.tag);
  const run: Run = {
    servers,
    settings,
    world,
    scenario: loadOf(world),
    folder,
    ...openStores(settings, ending),
  };
  if (settings.tag !== '')
    tell('on servers that were given: what the demo writes there stays, under names of its own');
  ending.defer(() => forgetLogins(world, settings));
  const logins = await prepare(run);
  tell(
    `made ${world.accounts.length} accounts, ${world.publishers.length} publishers, ${world.nodes.length} nodes`,
  );
  const nursery = { folder: run.folder, adopt: (pid: number) => servers.adopt(pid) };
  const parts = await startParts(world, settings, logins.nodes, nursery, (end) =>
    ending.defer(async () => void (await end())),
  );
  await run.witnesses.start();
  tell('a coordinator, a model server and eight workers are up; here comes the load');
  const startMs = servers.timings.startMs + systemClock.monotonicMs() - readyMs;
  const sent = await sendLoad(run, logins, parts, terminal);
  const checkedMs = systemClock.monotonicMs();
  const report = await compare(run, parts, sent, origin);
  const uncleanEnds = await stopParts(parts);
  const { downloadMs, installMs } = servers.timings;
  const checkMs = systemClock.monotonicMs() - checkedMs;
  return {
    ...report,
    isGood: report.isGood && uncleanEnds.length === 0,
    uncleanEnds,
    timings: { downloadMs, installMs, startMs, runMs: sent.runMs, checkMs },
  };
}

/** Ends the workers, then the coordinator, as an operator would; names those that did not end well. */
async function stopParts({ fleet, daemon, model }: Parts): Promise<string[]> {
  const unclean: string[] = [];
  for (const child of [fleet, daemon, model]) if (!(await child.stop())) unclean.push(child.name);
  return unclean;
}

function openStores({ config }: DemoSettings, ending: AsyncDisposableStack): Pick<Run, 'db' | 'witnesses'> {
  const log = createLog({ level: 'error' }, 2);
  const url = config.servers.postgresAdminUrl ?? '';
  const db = new Database({ ...config.ledger, ...config.servers, url, connectionsMax: CONNECTIONS_MAX }, log);
  const witnesses = new Witnesses(config, log, db);
  ending.defer(() => db.close());
  ending.defer(() => witnesses.stop());
  return { db, witnesses };
}

/** The schema, and the records of the world. */
async function prepare({ settings, world, scenario, db }: Run): Promise<Logins> {
  const { config, rolePassword } = settings;
  const url = config.servers.postgresAdminUrl ?? '';
  await Promise.all([
    migrate({ url, rolePassword }, createLog({ level: 'silent' })),
    ensureCollections(config.servers),
  ]);
  return provision(world, scenario.creditMicro, config, db);
}

/** Sends everything and waits for its end. Rejects when one of the processes ends on the way. */
async function sendLoad(run: Run, logins: Logins, parts: Parts, terminal: Terminal): Promise<Sent> {
  const { settings, world, scenario, folder, witnesses } = run;
  const { config } = settings;
  await using ending = new AsyncDisposableStack();
  const clients = new Clients(world);
  ending.defer(() => clients.stop());
  const generator = new Generator({
    world,
    scenario,
    prompts: new Prompts(),
    clients,
    log: new PredictionLog(join(folder, 'generator.log')),
    digestKey: digestKeyOf(config.secrets.digestKey),
    clock: systemClock,
  });
  await clients.start(
    config,
    logins.publishers,
    (seq, reply) => generator.take(seq, reply),
    createLog({ level: 'error' }, 2),
  );
  const before = await witnesses.statements(world);
  const pools = [world.small.name, world.large.name];
  const { cpuSeconds } = await fetchMetrics(parts.httpUrl, pools);
  const beganAtMs = systemClock.nowMs();
  const beganMs = systemClock.monotonicMs();
  const progress = new Progress(
    terminal,
    () => systemClock.monotonicMs(),
    () => generator.state,
    async () => {
      const [metrics, statements] = await Promise.all([
        fetchMetrics(parts.httpUrl, pools),
        witnesses.statements(world),
      ]);
      return { ...metrics, heldMicro: statements.reduce((sum, { heldMicro }) => sum + heldMicro, 0n) };
    },
  );
  progress.start();
  try {
    await Promise.race([generator.run(), parts.daemon.failed, parts.fleet.failed, parts.model.failed]);
  } finally {
    progress.stop();
  }
  const runMs = systemClock.monotonicMs() - beganMs;
  const predictions = await generator.predictions();
  const after = await fetchMetrics(parts.httpUrl, pools);
  return { generator, predictions, before, runMs, cpuMs: (after.cpuSeconds - cpuSeconds) * 1_000, beganAtMs };
}

/** Asks every witness, then the audit, and puts what they say together. */
async function compare(
  run: Run,
  parts: Parts,
  sent: Sent,
  origin: string,
): Promise<Omit<DemoReport, 'timings' | 'uncleanEnds'>> {
  const { world, scenario, settings, servers, witnesses } = run;
  const { generator, predictions, before, cpuMs, beganAtMs } = sent;
  await idle(run, parts);
  const after = await witnesses.statements(world);
  const rows = await witnesses.rowsOf(generator.jobs, after);
  await witnesses.tracesWritten(rows);
  const dead = await witnesses.deadLetters(
    predictions.filter(({ state }) => state === 'dead').map(({ job }) => job),
  );
  const { replies, strayReplies, state } = generator;
  const evidence: Evidence = { replies, strayReplies, rows, dead };
  const differences = differencesOf(predictions, evidence);
  const audit = await auditOf(settings, parts);
  const times = await witnesses.dispatchTimes(world, beganAtMs, systemClock.nowMs() + 1);
  const sorted = times.toSorted((a, b) => a - b);
  const credits = flowsOf(before, after);
  const toldMicro = toldBy(generator);
  const isAuditClean =
    audit.verdict === 'ok' || (audit.verdict !== 'broken' && !servers.started.includes('postgres'));
  const isComplete = state.sent === scenario.messages.length;
  return {
    isGood: differences.length === 0 && isComplete && areCreditsExact(credits, toldMicro) && isAuditClean,
    load: {
      jobs: generator.jobs.size,
      messages: predictions.length,
      publishers: world.publishers.length,
      accounts: world.accounts.length,
      workers: world.nodes.length,
      slots: world.nodes.reduce((sum, { slots }) => sum + slots, 0),
      origin,
      lagMsMax: state.lagMsMax,
    },
    tallies: talliesOf(predictions, evidence),
    differences,
    dispatch: {
      jobs: sorted.length,
      p50Ms: quantile(sorted, 0.5),
      p95Ms: quantile(sorted, 0.95),
      p99Ms: quantile(sorted, 0.99),
    },
    coordinator: { cpuMs },
    credits,
    toldMicro,
    audit,
    story: await witnesses.story(storyOf(predictions)),
  };
}

/** Waits until the coordinator holds nothing and every slot is free; what is not by then, the audit tells. */
async function idle({ world }: Run, { httpUrl }: Parts): Promise<void> {
  const endMs = systemClock.monotonicMs() + IDLE_MS_MAX;
  while (systemClock.monotonicMs() < endMs) {
    const { inHand, slotsUsed } = await fetchMetrics(httpUrl, [world.small.name, world.large.name]);
    if (inHand === 0 && slotsUsed === 0) return;
    await sleep(POLL_MS);
  }
}

/** The audit of `tollgate audit`, with the workers' own logs; all clocks are this machine's. */
async function auditOf({ config }: DemoSettings, { workerLogs }: Parts): Promise<AuditReport> {
  const { stores, close } = await openAuditStores(config, createLog({ level: 'error' }, 2));
  try {
    return await runAudit(stores, { bounds: auditBounds(config), workerLogs, clockSkewMs: 0 });
  } finally {
    await close();
  }
}

function flowsOf(before: readonly AccountStatement[], after: readonly AccountStatement[]): CreditFlow[] {
  return after.map((statement, i) => ({
    account: statement.name,
    beforeMicro: before[i]?.freeMicro ?? 0n,
    afterMicro: statement.freeMicro,
    capturedMicro: statement.capturedMicro - (before[i]?.capturedMicro ?? 0n),
    heldMicro: statement.heldMicro,
  }));
}

/** What clients were told they paid: once per job, however often it was told. */
function toldBy({ replies }: Generator): bigint {
  const charges = new Map<string, number>();
  for (const reply of [...replies.values()].flat())
    if (reply.job !== null) charges.set(reply.job, Math.max(reply.chargedMicro, charges.get(reply.job) ?? 0));
  return [...charges.values()].reduce((sum, micro) => sum + BigInt(micro), 0n);
}

/** A job that was sent again after its end, because its story says the most; else any that succeeded. */
function storyOf(predictions: readonly Prediction[]): string {
  const told =
    predictions.find(({ kind }) => kind === 'again') ??
    predictions.find(({ state }) => state === 'succeeded');
  return (told ?? predictions[0])?.job ?? '';
}
