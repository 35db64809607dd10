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
  /** What makes it quick. */
  readonly quick: readonly string[];
  /** What it takes with its defaults on two cores, about. */
  readonly minutes: number;
}

/** All of them together end by then, whatever happens. */
export const ALL_MINUTES_MAX = 40;

/** Suites that `all` runs, in this order. Growth has no figure that is asked: its plots are. */
export const SUITES_OF_ALL: readonly SuiteOfAll[] = [
  { suite: 'hotpath', quick: ['--quick'], minutes: 8.5 },
  { suite: 'limits', quick: ['--quick'], minutes: 2.6 },
  { suite: 'peers', quick: ['--quick'], minutes: 5.6 },
  { suite: 'conditions', quick: ['--quick'], minutes: 8 },
  { suite: 'growth', quick: ['--quick'], minutes: 7 },
  { suite: 'flood', quick: ['--pairs', '2', '--seconds', '2'], minutes: 4 },
];

/** What takes too long for `all` is read from its own dated file, with the command that writes it. */
export const FILES_OF_ALL: Readonly<Record<string, string>> = {
  rows: 'npm run bench -- rows --json bench/results/rows.json',
  memory: 'npm run bench -- memory --json bench/results/memory.json',
  faults: 'npm run bench -- faults REPORT.json... --json bench/results/faults.json',
};

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
  wanted('hotpath', 'latency/500/p50', 'p50 to the node’s queue at 500/s ÷ bare relay', TARGETS.latency),
  wanted('hotpath', 'latency/500/p99', 'p99 to the node’s queue at 500/s ÷ bare relay', TARGETS.latency),
  wanted('hotpath', 'latency/1000/p50', 'p50 to the node’s queue at 1,000/s ÷ bare relay', TARGETS.latency),
  wanted('hotpath', 'latency/1000/p99', 'p99 to the node’s queue at 1,000/s ÷ bare relay', TARGETS.latency),
  wanted(
    'conditions',
    'conditions/commit-5ms',
    'rate with 5 ms added to each commit ÷ without',
    TARGETS.keptUnderCondition,
  ),
  wanted(
    'limits',
    'ledger/batched-over-single',
    'locks/s of the ledger ÷ one per transaction',
    TARGETS.batchedLocks,
  ),
  wanted(
    'conditions',
    'conditions/hot-account',
    'one account with half the jobs ÷ spread evenly',
    TARGETS.keptUnderCondition,
  ),
  wanted(
    'rows',
    'conditions/rows-5000000',
    'dispatch rate with 5 million ledger jobs ÷ empty',
    TARGETS.keptUnderCondition,
  ),
  wanted(
    'conditions',
    'conditions/workers-100000',
    'dispatch rate with 100,000 workers ÷ 10',
    TARGETS.keptUnderCondition,
  ),
  wanted(
    'conditions',
    'conditions/pools-1000',
    'dispatch rate with 1,000 pools ÷ 1',
    TARGETS.keptUnderCondition,
  ),
  wanted(
    'memory',
    'memory/rss-max',
    'memory of the daemon, saturated (its run tells how long)',
    TARGETS.memoryMiB,
  ),
  wanted('memory', 'memory/growth', 'its growth over that time', null),
  wanted('faults', 'faults/lost', 'faults: jobs lost', TARGETS.fault),
  wanted('faults', 'faults/double-charged', 'faults: jobs charged twice', TARGETS.fault),
  wanted('faults', 'faults/unlocked-dispatches', 'faults: dispatches without a lock', TARGETS.fault),
  wanted('faults', 'faults/slots-leaked', 'faults: slots leaked', TARGETS.fault),
  wanted('faults', 'faults/traces-missing', 'faults: traces missing', TARGETS.fault),
  wanted(
    'flood',
    'flood/flood of 10 %/p50',
    'others’ p50 beside a flood of 10 % of the intake ÷ none',
    TARGETS.besideFlood,
  ),
  wanted(
    'flood',
    'flood/flood of 25 %/p50',
    'others’ p50 beside a flood of 25 % of the intake ÷ none',
    TARGETS.besideFlood,
  ),
  wanted(
    'flood',
    'flood/flood of 50 %/p50',
    'others’ p50 beside a flood of 50 % of the intake ÷ none',
    TARGETS.besideFlood,
  ),
];

function wanted(suite: string, id: string, what: string, target: Target | null): Wanted {
  return { id, what, target, suite };
}
