import { Redis } from 'ioredis';
import { MongoClient } from 'mongodb';
import { until } from '../../test/support/until.ts';
import { BenchError } from '../bench-error.ts';
import { within } from '../measure/clock.ts';
import { groundOf } from '../measure/ground.ts';
import { type Ground, saturatedRun, type SaturatedRun, settled, startMeter } from '../measure/runs.ts';
import { readSettings, readVersions, type Setting, startWitness } from '../measure/settings.ts';
import { alternating } from '../measure/statistics.ts';
import { requireStrong, warmUp as warmAgain } from '../measure/warm-up.ts';
import type { PeerMethods } from '../peers/peer.ts';
import { countPostgres } from '../peers/postgres.ts';
import { type Contest, contests, type PeerName, PEERS } from '../peers/settings.ts';
import { Child } from '../process/child.ts';
import { disturbancesOf, type Findings } from '../report/findings.ts';
import { columns, plain } from '../report/report.ts';
import { type Subject, tollgateSubject } from '../subjects/subject.ts';
import { connectClient } from '../world/load.ts';
import { makePeopledWorld, startFleet } from '../world/peopled.ts';
import { NODES } from '../world/names.ts';
import { startRegistrar } from '../world/registrar.ts';
import type { World } from '../world/world.ts';
import { type PeerRun, peerFigures, shownSetting, subjectOf } from './peers-figures.ts';
import { backlogOf, PEERS_USAGE, type PeersOptions, peersOptions } from './peers-options.ts';
import { type Bench, headOf, requireQuiet, type Suite, tell, withBench } from './suite.ts';

/**
 * What would a user get who took BullMQ, pg-boss or graphile-worker instead and wrote the same steps around it? Each with its
 * recommended settings, on the same servers, in the same pairs as Tollgate. Method: bench/README.md; settings: bench/peers/README.md.
 */
export const peers: Suite = {
  asks: 'what other job queues do with the same steps',
  usage: PEERS_USAGE,
  run: (argv) => {
    const options = peersOptions(argv);
    return withBench((bench) => measure(bench, options, argv));
  },
};

/** Everybody, ready to begin. */
interface Arena {
  readonly ground: Ground;
  readonly tollgate: Subject;
  /** Where the peers work, all in the same databases: one runs at a time. */
  readonly world: World;
  readonly children: ReadonlyMap<PeerName, Child<PeerMethods>>;
  /** What the daemon said with level `warn` or above. */
  readonly warnings: readonly string[];
}

/** No run may hang. */
const RUN_MS_MAX = 120_000;
/** Of its backlog, a warm-up gets this share. */
const WARM_UP_SHARE = 0.25;

async function measure(bench: Bench, options: PeersOptions, argv: readonly string[]): Promise<Findings> {
  const startedAt = new Date().toISOString();
  const arena = await setUp(bench);
  const settings = await warmUp(arena, Math.ceil(options.jobs * WARM_UP_SHARE));
  const own: SaturatedRun[] = [];
  const runs: PeerRun[] = [];
  const entries = [null, ...contests(options.isTuning)];
  for (let pair = 0; pair < options.pairs; pair++) {
    for (const contest of alternating(entries, pair)) {
      if (contest === null) own.push(await ownRun(arena, pair, options.jobs));
      else runs.push(await peerRun(arena, contest, pair, backlogOf(contest, options.jobs)));
    }
  }
  requireQuiet(arena.warnings);
  return {
    ...headOf('peers', argv, startedAt),
    versions: await readVersions(arena.world),
    settings,
    figures: options.isTuning ? [] : peerFigures(own, runs),
    notes: [
      ...(options.isTuning ? tuningLines(runs) : []),
      `${await redisPersistence(arena.world)}; locks, hand-overs and traces are as durable as Tollgate's`,
      'every run was counted: locks committed in PostgreSQL, traces in MongoDB, dispatches at the nodes, jobs left in the queue',
    ],
    disturbances: disturbancesOf([...own, ...runs], seriesOf),
    runs: [...own, ...runs],
  };
}

/** Runs of one task of one peer, or Tollgate's own. */
function seriesOf(run: SaturatedRun | PeerRun): string {
  return 'peer' in run ? subjectOf(run) : run.subject;
}

async function setUp(bench: Bench): Promise<Arena> {
  const { t, stack, owner } = bench;
  const fleet = startFleet(bench);
  const client = await connectClient(t, await makePeopledWorld(t, fleet, 'tollgate', true));
  const warnings: string[] = [];
  const onWarning = (line: string): void => void warnings.push(line);
  const tollgate = await tollgateSubject(client, fleet, { owner, profile: null, onWarning });
  t.after(() => tollgate.stop());
  const world = await makePeopledWorld(t, fleet, 'peers', true);
  const registrar = await startRegistrar(t, world, 1);
  await fleet.call('hello', world.name);
  await until(async () => (await registrar.workers()) === NODES.length, 'the workers to be known');
  const { postgresAdminUrl, redisUrl } = world.servers;
  const children = new Map<PeerName, Child<PeerMethods>>();
  for (const peer of PEERS) {
    const child = new Child<PeerMethods>(`peers/${peer}.ts`, owner);
    t.after(() => child.stop());
    await child.call('open', { config: world.config, place: { postgresAdminUrl, redisUrl } });
    children.set(peer, child);
  }
  const pids = [...children].map(([name, { pid }]) => ({ name, pid }));
  return { ground: groundOf(stack, fleet, [tollgate, ...pids]), tollgate, world, children, warnings };
}

/** Everybody once with every task, watched: compilers and caches are warm, and what the figures stand on has been seen. */
async function warmUp(arena: Arena, jobs: number): Promise<Setting[]> {
  tell('warm-up');
  const { ground, tollgate, world } = arena;
  const ours = await startWitness(tollgate.client.world, true);
  const own = () => saturatedRun(ground, tollgate, 'life', 0, jobs);
  await own();
  // At once: a dispatch in the witness's queue lives as long as its start window.
  const settings = [...(await ours.read()), ...(await readSettings(tollgate.client.world, true))];
  const all = contests(false);
  const witness = await startWitness(world, true);
  for (const contest of all.filter(isHandedOver)) await peerRun(arena, contest, 0, backlogOf(contest, jobs));
  // Jobs do not come by the broker here, and nobody answers: there is no result and no attempt.
  const seen = (await witness.read()).filter(({ name }) => /on dispatch$|of requests$/.test(name));
  for (const contest of all.filter((one) => !isHandedOver(one)))
    await peerRun(arena, contest, 0, backlogOf(contest, jobs));
  settings.push(...seen, ...(await readSettings(world, true)));
  requireStrong(settings);
  await warmAgain(own);
  await warmAgain(async () => {
    for (const contest of all) await peerRun(arena, contest, 0, backlogOf(contest, jobs));
  });
  return settings;
}

async function ownRun({ ground, tollgate }: Arena, pair: number, jobs: number): Promise<SaturatedRun> {
  const { world } = tollgate.client;
  const before = await countsOf(world);
  const run = await saturatedRun(ground, tollgate, 'dispatch', pair, jobs);
  await expectCounts(world, before, { locks: jobs, traces: jobs }, 'tollgate');
  tell(`pair ${pair + 1}, tollgate: ${plain(run.perSecond)}/s`);
  return run;
}

/** Only then there is something at the nodes, in the traces and in the slots. */
function isHandedOver({ variant }: Contest): boolean {
  return variant === 'same steps';
}

/** Lets a peer work off a backlog, and proves afterwards that it did all of it. */
async function peerRun(
  { ground, world, children }: Arena,
  contest: Contest,
  pair: number,
  jobs: number,
): Promise<PeerRun> {
  const { peer, variant } = contest;
  const hasNodes = isHandedOver(contest);
  const child = children.get(peer);
  if (child === undefined) throw new Error(`no ${peer}`);
  const subject = subjectOf(contest);
  const before = await countsOf(world);
  if (hasNodes) await ground.fleet.call('expect', { world: world.name, jobs, answers: 'later' });
  await child.call('fill', jobs);
  await settled();
  const meter = startMeter(ground);
  await child.call('begin', { ...contest, jobs });
  const { startMs, lastMs } = await within(child.call('handled'), RUN_MS_MAX, `${jobs} jobs of ${subject}`);
  let endMs = lastMs;
  if (hasNodes) {
    const arrived = ground.fleet.call('arrived', world.name);
    const arrivals = await within(arrived, RUN_MS_MAX, `${jobs} dispatches of ${subject}`);
    if (arrivals.duplicates > 0)
      throw new BenchError(`${subject} dispatched ${arrivals.duplicates} jobs twice`);
    endMs = arrivals.lastMs;
  }
  const used = meter();
  const { left, released } = await child.call('end');
  if (left > 0) throw new BenchError(`${subject} left ${left} of ${jobs} jobs incomplete`);
  if (hasNodes && released !== jobs)
    throw new BenchError(`${subject} took ${released} slots for ${jobs} jobs`);
  const locks = variant === 'no-op' ? 0 : jobs;
  await expectCounts(world, before, { locks, traces: hasNodes ? jobs : 0 }, subject);
  const ms = endMs - startMs;
  const perSecond = (jobs * 1_000) / ms;
  tell(
    `pair ${pair + 1}, ${subject} (${shownSetting(contest.setting)}): ${jobs} in ${ms.toFixed(0)} ms, ${plain(perSecond)}/s`,
  );
  return { ...contest, pair, jobs, ms, perSecond, ...used };
}

/** What a world has of each. */
interface Counts {
  readonly locks: number;
  readonly traces: number;
}

async function countsOf({ servers }: World): Promise<Counts> {
  const mongo = new MongoClient(servers.mongoUrl);
  try {
    return {
      locks: await countPostgres(
        servers.postgresAdminUrl,
        "select count(*) from credits.transfers where phase = 0 and kind = 'lock'",
      ),
      traces: await mongo.db().collection('requests').countDocuments(),
    };
  } finally {
    await mongo.close();
  }
}

async function expectCounts(world: World, before: Counts, more: Counts, subject: string): Promise<void> {
  const after = await countsOf(world);
  const [locks, traces] = [after.locks - before.locks, after.traces - before.traces];
  if (locks !== more.locks || traces !== more.traces)
    throw new BenchError(
      `${subject} made ${locks} locks and ${traces} traces instead of ${more.locks} and ${more.traces}`,
    );
}

/** BullMQ's jobs are as durable as this. */
async function redisPersistence({ servers }: World): Promise<string> {
  const redis = new Redis(servers.redisUrl);
  try {
    const [, appends] = await redis.config('GET', 'appendonly');
    const [, saves] = await redis.config('GET', 'save');
    const isKept = appends === 'yes' || saves !== '';
    return `Redis: appendonly ${appends}, save "${saves}"${isKept ? '' : ", so BullMQ's jobs are kept in memory only"}`;
  } finally {
    redis.disconnect();
  }
}

/** The rates of every setting that was tried, of all pairs, the kept one first. */
function tuningLines(runs: readonly PeerRun[]): string[] {
  const groups = Map.groupBy(runs, (run) => `${subjectOf(run)}: ${shownSetting(run.setting)}`);
  const rows = [...groups].map(([name, own]) => [
    name,
    own.map(({ perSecond }) => plain(perSecond)).join(' / '),
  ]);
  return [...columns([['setting', 'jobs/s'], ...rows]), ''];
}
