import type { Target } from './findings.ts';
import { TARGETS } from './targets.ts';

/** A figure that is asked of Tollgate, and who measures it. */
export interface Wanted {
  readonly id: string;
  readonly what: string;
  /** Null: the one that its suite judges by. */
  readonly target: Target | null;
  readonly suite: string;
}

/** A suite that `all` runs. */
export interface SuiteOfAll {
  readonly suite: string;
  /** What it is given: only what is asked or plotted, so that all of them fit into `ALL_MINUTES_MAX` also in a slow hour. */
  readonly given?: readonly string[];
  /** What makes it quick. */
  readonly quick: readonly string[];
  /** What it takes so on two cores, about. */
  readonly minutes: number;
}

/** All of them together end by then, whatever happens. */
export const ALL_MINUTES_MAX = 40;

/** What takes too long for `all` is read from its own dated file, with the command that writes it. */
export const FILES_OF_ALL: Readonly<Record<string, string>> = {
  rows: 'npm run bench -- rows --json bench/results/rows.json',
  memory: 'npm run bench -- memory --json bench/results/memory.json',
  faults: 'npm run bench -- faults REPORT.json... --json bench/results/faults.json',
};

const { latency: LATENCY, keptUnderCondition: KEPT, fault: FAULT, besideFlood: FLOOD } = TARGETS;

const LATENCIES = ['500', '1000'].flatMap((rate) =>
  ['p50', 'p99'].map((quantile) => {
    const what = `${quantile} to the node’s queue at ${Number(rate).toLocaleString('en')}/s ÷ bare relay`;
    return wanted('hotpath', `latency/${rate}/${quantile}`, what, LATENCY);
  }),
);

/** Shares of the intake at which somebody floods, in percent. */
const FLOODS = [10, 25, 50].map((share) => {
  const what = `others’ p50 beside a flood of ${share} % of the intake ÷ none`;
  return wanted('flood', `flood/flood of ${share} %/p50`, what, FLOOD);
});

/** Every number that the design asks for, in its order. */
export const WANTED: readonly Wanted[] = [
  wanted('hotpath', 'dispatch/relay', 'dispatch rate, saturated ÷ bare relay', TARGETS.dispatchOverRelay),
  wanted(
    'hotpath',
    'dispatch/one at a time',
    'dispatch rate ÷ one job at a time',
    TARGETS.dispatchOverOneAtATime,
  ),
  wanted('hotpath', 'life/one at a time', 'full life ÷ one job at a time', TARGETS.lifeOverOneAtATime),
  wanted(
    'peers',
    'peers/same-steps',
    'dispatch rate ÷ best peer with the same steps',
    TARGETS.overPeersSameSteps,
  ),
  wanted(
    'peers',
    'peers/lock-only',
    'dispatch rate ÷ best peer with the credit lock alone',
    TARGETS.overPeersLockOnly,
  ),
  wanted('hotpath', 'life/relay', 'full life ÷ bare relay of the same messages', TARGETS.lifeOverRelay),
  wanted('hotpath', 'cpu/life', 'CPU of our process per life ÷ the relay client’s', TARGETS.cpuPerLife),
  ...LATENCIES,
  wanted('conditions', 'conditions/commit-5ms', 'rate with 5 ms added to each commit ÷ without', KEPT),
  wanted(
    'limits',
    'ledger/batched-over-single',
    'locks/s of the ledger ÷ one per transaction',
    TARGETS.batchedLocks,
  ),
  wanted('conditions', 'conditions/hot-account', 'one account with half the jobs ÷ spread evenly', KEPT),
  wanted('rows', 'conditions/rows-5000000', 'dispatch rate with 5 million ledger jobs ÷ empty', KEPT),
  wanted('conditions', 'conditions/workers-100000', 'dispatch rate with 100,000 workers ÷ 10', KEPT),
  wanted('conditions', 'conditions/pools-1000', 'dispatch rate with 1,000 pools ÷ 1', KEPT),
  wanted(
    'memory',
    'memory/rss-max',
    'memory of the daemon, saturated (its run tells how long)',
    TARGETS.memoryMiB,
  ),
  wanted('memory', 'memory/growth', 'its growth over that time', null),
  wanted('faults', 'faults/lost', 'faults: jobs lost', FAULT),
  wanted('faults', 'faults/double-charged', 'faults: jobs charged twice', FAULT),
  wanted('faults', 'faults/unlocked-dispatches', 'faults: dispatches without a lock', FAULT),
  wanted('faults', 'faults/slots-leaked', 'faults: slots leaked', FAULT),
  wanted('faults', 'faults/traces-missing', 'faults: traces missing', FAULT),
  ...FLOODS,
];

/** By the names of the suite's option; its other conditions say nothing that design or pages ask for. */
const CONDITIONS_ASKED = WANTED.filter(({ suite }) => suite === 'conditions').map(({ id }) =>
  id.slice('conditions/'.length),
);

/** Suites that `all` runs, in this order. Growth comes last, since it has no figure that is asked: in a slow hour only its plots are lost. */
export const SUITES_OF_ALL: readonly SuiteOfAll[] = [
  { suite: 'hotpath', quick: ['--quick'], minutes: 8.5 },
  { suite: 'limits', quick: ['--quick'], minutes: 2.6 },
  { suite: 'peers', quick: ['--quick'], minutes: 5.6 },
  { suite: 'conditions', given: ['--only', CONDITIONS_ASKED.join(',')], quick: ['--quick'], minutes: 5 },
  { suite: 'flood', quick: ['--pairs', '2', '--seconds', '2'], minutes: 4 },
  { suite: 'growth', quick: ['--quick'], minutes: 7 },
];

function wanted(suite: string, id: string, what: string, target: Target | null): Wanted {
  return { id, what, target, suite };
}
