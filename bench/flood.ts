import { writeFileSync } from 'node:fs';
import { stackEnvironment } from '../src/stack/environment.ts';
import { withStack } from '../src/stack/with-stack.ts';
import type { Teardown } from '../test/support/servers.ts';
import { until } from '../test/support/until.ts';
import { type FloodOptions, floodOptions } from './arguments.ts';
import { Child } from './child.ts';
import type { FleetMethods } from './fleet.ts';
import type { Flood, FlooderMethods } from './flooder.ts';
import { connectClient } from './load.ts';
import { type Machine, readMachine } from './machine.ts';
import { FLOODER } from './names.ts';
import { publisherUser } from '../src/contracts/names.ts';
import { type Owner, ownerOf } from './owner.ts';
import { type Ground, latencyRun, saturatedRun } from './runs.ts';
import { alternating, type Interval, pairedRatios, type Quantiles, ratioInterval } from './statistics.ts';
import { type Subject, tollgateSubject } from './subject.ts';
import { addFlooder, amqpUrlAs, makeWorld, nodesOf } from './world.ts';

/**
 * At which shares of the intake rate an account floods; the first is what the others are set against. A control sends as much
 * past Tollgate, through a queue beside it: its effect is the broker's and the machine's.
 */
const FLOODS = [
  { share: 0, isControl: false },
  { share: 0.1, isControl: false },
  { share: 0.1, isControl: true },
  { share: 0.25, isControl: false },
  { share: 0.25, isControl: true },
  { share: 0.5, isControl: false },
  { share: 0.5, isControl: true },
] as const;
/** Jobs of one saturated run, and of one burst of refusals. */
const SATURATED_JOBS = 8_000;
const BURST_JOBS = 10_000;
/** Jobs a second that the other accounts send meanwhile. */
const OTHERS_PER_SECOND = 200;
const ANSWER_MS_MAX = 60_000;

/** What the other accounts' jobs took while one account flooded. */
interface FloodRun {
  readonly pair: number;
  readonly share: number;
  readonly isControl: boolean;
  readonly floodPerSecond: number;
  readonly latencyMs: Quantiles;
  readonly latenessMs: Quantiles;
  readonly flood: Flood;
}

/** All that one call of the suite found. */
interface FloodFindings {
  readonly suite: 'flood';
  readonly startedAt: string;
  readonly machine: Machine;
  readonly intakePerSecond: number;
  readonly refusalsPerSecond: number;
  readonly seconds: number;
  readonly runs: readonly FloodRun[];
}

/**
 * What does an account that floods beyond its limit do to the others? Each pair runs all shares of the intake rate, in every second
 * pair backwards (A B B A); the ratio of the others' latency to that without a flood is formed within the pair.
 */
export async function flood(argv: readonly string[]): Promise<void> {
  const options = floodOptions(argv);
  const findings = await withStack(async (stack) => {
    Object.assign(process.env, stackEnvironment(stack.urls));
    const endings: (() => unknown)[] = [];
    const t: Teardown = { after: (cleanUp) => endings.push(cleanUp) };
    try {
      return await measure(t, ownerOf(stack), options);
    } finally {
      for (const end of endings.toReversed()) await end();
    }
  });
  if (options.json !== null) writeFileSync(options.json, `${JSON.stringify(findings, null, 1)}\n`);
  process.stdout.write(`${reportLines(findings).join('\n')}\n`);
}

async function measure(t: Teardown, owner: Owner, options: FloodOptions): Promise<FloodFindings> {
  const startedAt = new Date().toISOString();
  const { ground, subject, flooder } = await setUp(t, owner);
  await saturatedRun(ground, subject, 'life', 0, SATURATED_JOBS / 4);
  const { perSecond } = await saturatedRun(ground, subject, 'dispatch', 0, SATURATED_JOBS);
  tell(`intake: ${perSecond.toFixed(0)} jobs/s`);
  const refusalsPerSecond = await burstOf(subject, flooder);
  tell(`refusals: ${refusalsPerSecond.toFixed(0)}/s`);
  const runs: FloodRun[] = [];
  // The workers stay over all runs: without them the pool pauses, and what is left of a flood waits in its queue.
  await subject.begin();
  const awake = { ...subject, begin: async () => undefined, end: async () => undefined };
  for (let pair = 0; pair < options.pairs; pair++)
    for (const { share, isControl } of alternating(FLOODS, pair))
      runs.push(
        await floodRun(ground, awake, flooder, {
          pair,
          share,
          isControl,
          intake: perSecond,
          seconds: options.seconds,
        }),
      );
  await subject.end();
  return {
    suite: 'flood',
    startedAt,
    machine: readMachine(),
    intakePerSecond: perSecond,
    refusalsPerSecond,
    seconds: options.seconds,
    runs,
  };
}

async function setUp(t: Teardown, owner: Owner) {
  const fleet = new Child<FleetMethods>('fleet.ts', owner);
  t.after(() => fleet.stop());
  const world = await makeWorld(t, 'tollgate', true);
  await addFlooder(t, world);
  await fleet.call('start', { world: world.name, nodes: nodesOf(world), config: world.config });
  const client = await connectClient(t, world);
  // What is asked is what refusals cost; a publisher that is cut off costs nothing.
  const environment = { TOLLGATE_LIMITS_FLOOD_JOBS_PER_SECOND: '1000000' };
  const subject = await tollgateSubject(client, fleet, {
    owner,
    profile: null,
    onWarning: tell,
    environment,
  });
  t.after(() => subject.stop());
  const flooder = new Child<FlooderMethods>('flooder.ts', owner);
  t.after(() => flooder.stop());
  await flooder.call('connect', {
    url: amqpUrlAs(world, publisherUser(FLOODER)),
    adminUrl: world.servers.amqpUrl,
    config: world.config,
  });
  const { cores } = readMachine();
  const ground: Ground = { fleet, processes: {}, hasAllServers: false, cores };
  return { ground, subject, flooder };
}

/** Refusals a second, of a burst that is far beyond the limit. */
async function burstOf(subject: Subject, flooder: Child<FlooderMethods>): Promise<number> {
  await subject.begin();
  await flooder.call('burst', BURST_JOBS);
  const { answered, answeredMs } = await allAnswered(flooder);
  await subject.end();
  return (answered * 1_000) / answeredMs;
}

async function floodRun(
  ground: Ground,
  subject: Subject,
  flooder: Child<FlooderMethods>,
  {
    pair,
    share,
    isControl,
    intake,
    seconds,
  }: { pair: number; share: number; isControl: boolean; intake: number; seconds: number },
): Promise<FloodRun> {
  const floodPerSecond = Math.round(intake * share);
  await flooder.call('begin', { perSecond: floodPerSecond, isControl });
  const stopping = setTimeout(() => void flooder.call('end'), (seconds + 1) * 1_000);
  const { latencyMs, latenessMs } = await latencyRun(ground, subject, pair, OTHERS_PER_SECOND, seconds);
  clearTimeout(stopping);
  await flooder.call('end');
  const run = {
    pair,
    share,
    isControl,
    floodPerSecond,
    latencyMs,
    latenessMs,
    flood: await allAnswered(flooder),
  };
  const { p50, p99 } = latencyMs;
  tell(
    `pair ${pair + 1}, ${isControl ? 'control' : 'flood'} of ${floodPerSecond}/s: others' p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`,
  );
  return run;
}

/** Every job of a flood is answered, sooner or later. */
function allAnswered(flooder: Child<FlooderMethods>): Promise<Flood> {
  return until(
    async () => {
      const seen = await flooder.call('flood');
      return seen.answered >= seen.sent ? seen : undefined;
    },
    'the answers to the flood',
    { timeoutMs: ANSWER_MS_MAX },
  );
}

function reportLines({
  machine,
  intakePerSecond,
  refusalsPerSecond,
  seconds,
  runs,
}: FloodFindings): string[] {
  const of = (share: number, isControl: boolean) =>
    runs
      .filter((run) => run.share === share && run.isControl === isControl)
      .toSorted((a, b) => a.pair - b.pair);
  const without = of(0, false);
  const lines = FLOODS.map(({ share, isControl }) => {
    const own = of(share, isControl);
    const ratio = (pick: (latency: Quantiles) => number): Interval =>
      ratioInterval(
        pairedRatios(
          own.map((run) => pick(run.latencyMs)),
          without.map((run) => pick(run.latencyMs)),
        ),
      );
    const median = (pick: (latency: Quantiles) => number): number =>
      own.map((run) => pick(run.latencyMs)).toSorted((a, b) => a - b)[Math.floor(own.length / 2)] ??
      Number.NaN;
    const figures = [(one: Quantiles) => one.p50, (one: Quantiles) => one.p99].map(
      (pick) => `${median(pick).toFixed(2).padStart(8)} ms  × ${intervalText(ratio(pick))}`,
    );
    const refused = own.reduce((sum, run) => sum + run.flood.rateLimited, 0);
    return `${`${share * 100} %`.padStart(6)}  ${String(own[0]?.floodPerSecond ?? 0).padStart(6)}/s  ${figures.join('  ')}  ${isControl ? 'control' : `${refused} refused`}`;
  });
  return [
    `flood: ${machine.cores} cores, ${OTHERS_PER_SECOND} jobs/s of 100 other accounts for ${seconds} s a run, ${without.length} pairs`,
    `intake ${intakePerSecond.toFixed(0)} jobs/s; refusals of a burst ${refusalsPerSecond.toFixed(0)}/s`,
    '',
    ' flood     rate       p50 (median, ratio within the pair and its 95 % interval)    p99',
    ...lines,
  ];
}

function intervalText({ mean, low, high }: Interval): string {
  return `${mean.toFixed(2)} [${low.toFixed(2)}, ${high.toFixed(2)}]`;
}

function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}
