import type { Target } from './findings.ts';

/** What is asked of Tollgate, once: suites judge their figures by it, and the table of `all` its rows. Source: the product's design, §6. */
export const TARGETS = {
  dispatchOverRelay: { atLeast: 0.7 },
  dispatchOverOneAtATime: { atLeast: 7 },
  lifeOverRelay: { atLeast: 0.6 },
  lifeOverOneAtATime: { atLeast: 9 },
  overPeersSameSteps: { atLeast: 4 },
  overPeersLockOnly: { atLeast: 2 },
  /** Our process's CPU per life against the relay client's. */
  cpuPerLife: { atMost: 1.6 },
  /** Against the relay's, p50 and p99. */
  latency: { atMost: 2.5 },
  /** What no condition, however the network grows, may leave less than. */
  keptUnderCondition: { atLeast: 0.85 },
  batchedLocks: { atLeast: 3.5 },
  memoryMiB: { atMost: 300 },
  /** The last third of a long run against the one before it: what grows for good does not stop there. */
  memoryGrowth: { atMost: 1.05 },
  fault: { atMost: 0 },
  /** The others beside a flood of up to half of what we take in, p50. */
  besideFlood: { atMost: 1.1 },
} as const satisfies Readonly<Record<string, Target>>;
