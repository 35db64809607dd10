import { publisherUser } from '../../src/contracts/names.ts';
import { until } from '../../test/support/until.ts';
import { FLOOD_USAGE, type FloodOptions, floodOptions } from '../arguments.ts';
import { groundOf } from '../measure/ground.ts';
import { type Ground, latencyRun, saturatedRun } from '../measure/runs.ts';
import { readVersions } from '../measure/settings.ts';
import { alternating, pairedRatios, type Quantiles, ratioInterval } from '../measure/statistics.ts';
import { watchedRun } from '../measure/warm-up.ts';
import { Child } from '../process/child.ts';
import { disturbancesOf, type Figure, figure, type Findings } from '../report/findings.ts';
import { columns, plain } from '../report/report.ts';
import { TARGETS } from '../report/targets.ts';
import { type Subject, tollgateSubject } from '../subjects/subject.ts';
import type { Flood, FlooderMethods } from '../world/flooder.ts';
import { connectClient } from '../world/load.ts';
import { makePeopledWorld, startFleet } from '../world/peopled.ts';
import { FLOODER } from '../world/names.ts';
import { addFlooder, amqpUrlAs } from '../world/world.ts';
import { type Bench, headOf, requireQuiet, type Suite, tell, withBench } from './suite.ts';

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
  readonly foreignShare: number | null;
  readonly flood: Flood;
}

/**
 * What does an account that floods beyond its limit do to the others? Each pair runs all shares of the intake rate, in every second
 * pair backwards (A B B A); the ratio of the others' latency to that without a flood is formed within the pair.
 */
export const flood: Suite = {
  asks: 'what an account that floods does to the others',
  usage: FLOOD_USAGE,
  run: (argv) => {
    const options = floodOptions(argv);
    return withBench((bench) => measure(bench, options, argv));
  },
};

async function measure(bench: Bench, options: FloodOptions, argv: readonly string[]): Promise<Findings> {
  const startedAt = new Date().toISOString();
  const { ground, subject, flooder, warnings } = await setUp(bench);
  const { world } = subject.client;
  const settings = await watchedRun(ground, subject, SATURATED_JOBS / 4);
  const { perSecond } = await saturatedRun(ground, subject, 'dispatch', 0, SATURATED_JOBS);
  tell(`intake: ${perSecond.toFixed(0)} jobs/s`);
  const refusalsPerSecond = await burstOf(subject, flooder);
  tell(`refusals: ${refusalsPerSecond.toFixed(0)}/s`);
  const runs: FloodRun[] = [];
  // The workers stay over all runs: without them the pool pauses, and what is left of a flood waits in its queue.
  await subject.begin();
  const awake = { ...subject, begin: async () => undefined, end: async () => undefined };
  const { seconds } = options;
  for (let pair = 0; pair < options.pairs; pair++)
    for (const { share, isControl } of alternating(FLOODS, pair))
      runs.push(
        await floodRun(ground, awake, flooder, { pair, share, isControl, intake: perSecond, seconds }),
      );
  await subject.end();
  requireQuiet(warnings);
  return {
    ...headOf('flood', argv, startedAt),
    versions: await readVersions(world),
    settings,
    figures: [
      figure('flood/intake', 'intake', '/s', [perSecond]),
      figure('flood/refusals', 'refusals of a burst', '/s', [refusalsPerSecond]),
      ...figuresOf(runs),
    ],
    notes: intervalLines(runs, seconds),
    disturbances: disturbancesOf(runs, nameOf),
    runs,
  };
}

async function setUp(bench: Bench) {
  const { t, stack, owner } = bench;
  const fleet = startFleet(bench);
  const world = await makePeopledWorld(t, fleet, 'tollgate', true);
  await addFlooder(t, world);
  const client = await connectClient(t, world);
  // What is asked is what refusals cost; a publisher that is cut off costs nothing.
  const warnings: string[] = [];
  const environment = { TOLLGATE_LIMITS_FLOOD_JOBS_PER_SECOND: '1000000' };
  const subject = await tollgateSubject(client, fleet, {
    owner,
    profile: null,
    onWarning: (line) => void warnings.push(line),
    environment,
  });
  t.after(() => subject.stop());
  const flooder = new Child<FlooderMethods>('world/flooder.ts', owner);
  t.after(() => flooder.stop());
  await flooder.call('connect', {
    url: amqpUrlAs(world, publisherUser(FLOODER)),
    adminUrl: world.servers.amqpUrl,
    config: world.config,
  });
  const ground = groundOf(stack, fleet, [subject, { name: 'flooder', pid: flooder.pid }]);
  return { ground, subject, flooder, warnings };
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
  const { latencyMs, latenessMs, foreignShare } = await latencyRun(
    ground,
    subject,
    pair,
    OTHERS_PER_SECOND,
    seconds,
  );
  clearTimeout(stopping);
  await flooder.call('end');
  const run = {
    pair,
    share,
    isControl,
    floodPerSecond,
    latencyMs,
    latenessMs,
    foreignShare,
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

/** Beside a flood latencies lie further apart than rates. */
const SPREAD_MAX = 1;

function nameOf({ share, isControl }: { readonly share: number; readonly isControl: boolean }): string {
  return share === 0 ? 'no flood' : `${isControl ? 'control' : 'flood'} of ${share * 100} %`;
}

function latenciesOf(
  runs: readonly FloodRun[],
  which: (typeof FLOODS)[number],
  quantile: 'p50' | 'p99',
): number[] {
  return runs
    .filter(({ share, isControl }) => share === which.share && isControl === which.isControl)
    .toSorted((a, b) => a.pair - b.pair)
    .map(({ latencyMs }) => latencyMs[quantile]);
}

function figuresOf(runs: readonly FloodRun[]): Figure[] {
  const [none] = FLOODS;
  return FLOODS.flatMap((which) =>
    (['p50', 'p99'] as const).flatMap((quantile) => {
      const own = latenciesOf(runs, which, quantile);
      const name = `others' ${quantile}, ${nameOf(which)}`;
      const id = `flood/${nameOf(which)}/${quantile}`;
      const latency = figure(`${id}/ms`, name, 'ms', own, { spreadMax: SPREAD_MAX });
      if (which.share === 0) return [latency];
      const target = which.isControl || quantile === 'p99' ? null : TARGETS.besideFlood;
      const ratios = pairedRatios(own, latenciesOf(runs, none, quantile));
      return [latency, figure(id, `${name} ÷ no flood`, '×', ratios, { target, spreadMax: SPREAD_MAX })];
    }),
  );
}

/** The ratios once more, with what is known of them: the geometric mean and its 95 % interval. */
function intervalLines(runs: readonly FloodRun[], seconds: number): string[] {
  const [none, ...floods] = FLOODS;
  const rows = floods.map((which) => {
    const own = runs.filter(({ share, isControl }) => share === which.share && isControl === which.isControl);
    const intervals = (['p50', 'p99'] as const).map((quantile) => {
      const { mean, low, high } = ratioInterval(
        pairedRatios(latenciesOf(runs, which, quantile), latenciesOf(runs, none, quantile)),
      );
      return `${plain(mean)} [${plain(low)}, ${plain(high)}]`;
    });
    const refused = own.reduce((sum, run) => sum + run.flood.rateLimited, 0);
    return [
      nameOf(which),
      `${own[0]?.floodPerSecond ?? 0}/s`,
      ...intervals,
      which.isControl ? '' : String(refused),
    ];
  });
  return [
    `${OTHERS_PER_SECOND} jobs/s of 100 other accounts for ${seconds} s a run; ratio to no flood, mean and 95 % interval`,
    ...columns([['', 'rate', 'p50', 'p99', 'refused'], ...rows]),
  ];
}
