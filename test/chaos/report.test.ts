import t from 'tap';
import type { Verdict } from '../../chaos/checker.ts';
import type { DoneFault } from '../../chaos/nemesis.ts';
import { countFaults, lineOf, lineOfTotal, type RunReport, totalOf } from '../../chaos/report.ts';
import type { Fault } from '../../chaos/schedule.ts';

const VERDICT: Verdict = {
  attempted: 101,
  acknowledged: 100,
  settled: 90,
  voided: 6,
  refused: 4,
  lost: 0,
  duplicated: 0,
  unexpected: 0,
  recovered: 3,
  unlockedDispatches: 0,
  slotsLeaked: 0,
  tracesMissing: 0,
  unanswered: 0,
  invariantsBroken: 0,
  probesBroken: 0,
  probes: 9,
  quiesceMs: 5,
  replayed: 2,
  ends: { succeeded: 90 },
  overdue: [],
  examples: [],
};

function done(fault: Fault, change: Partial<DoneFault> = {}): DoneFault {
  return { fault, what: fault.kind, fromMs: 1, toMs: 2, isReached: true, error: null, ...change };
}

const FAULTS: readonly DoneFault[] = [
  done({ kind: 'kill', coordinator: 0 }),
  done({ kind: 'kill_at', coordinator: 0, point: 'lock.committed', hits: 1 }),
  done({ kind: 'kill_at', coordinator: 0, point: 'owed.cleared', hits: 1 }, { isReached: false }),
  done({ kind: 'flush' }),
  done({ kind: 'terminate' }, { error: 'PostgreSQL was away' }),
];

function run(seed: number, change: Partial<RunReport> = {}): RunReport {
  return {
    isGood: true,
    seed,
    commit: 'abc',
    minutes: 1,
    coordinators: 2,
    everyMs: 2_000,
    isOverlapping: false,
    verdict: VERDICT,
    faults: countFaults(FAULTS),
    crashes: [],
    failedStarts: 0,
    uncleanDrains: 0,
    residentMiBMax: 100 + seed,
    memory: null,
    recoveries: { seen: [{ group: 'kill', ms: seed }], interrupted: 1 },
    recovery: {},
    schedule: [],
    skipped: [],
    ...change,
  };
}

await t.test(
  'a kill that missed its point counts as one at random, and what was not done does not count',
  async (t) => {
    t.same(countFaults(FAULTS), {
      kills: 3,
      killsAtPoints: 1,
      others: 1,
      points: { 'lock.committed': 1 },
      missed: 0,
      failed: 1,
    });
  },
);

await t.test('runs add up, and zeros in n are at most 3/n', async (t) => {
  const total = totalOf([run(2), run(1, { commit: 'def' })]);
  t.match(total, {
    isGood: true,
    seeds: [1, 2],
    commits: ['abc', 'def'],
    kills: 6,
    killsAtPoints: 2,
    otherFaults: 2,
    columns: { acknowledged: 200, lost: 0 },
    ends: { succeeded: 180 },
    lostPerJobAtMost: 0.015,
    wrongPerKillAtMost: 0.5,
    residentMiBMax: 102,
    recovery: { kill: { faults: 2, maxMs: 2 } },
  });
  t.match(lineOfTotal(total), /2 runs: 6 kills \(2 at failpoints\).*lost 0.*good$/);
});

await t.test('one bad run spoils the sum, which names its seed', async (t) => {
  const bad = run(7, { isGood: false, verdict: { ...VERDICT, lost: 1 } });
  const total = totalOf([run(1), bad]);
  t.match(total, { isGood: false, badSeeds: [7], lostPerJobAtMost: null });
  t.match(lineOfTotal(total), /NOT GOOD: seeds 7$/);
  t.match(lineOf(bad), /NOT GOOD: lost 1$/);
  t.match(lineOf(run(1)), /attempted 101, acknowledged 100, settled 90, .* recovered 3: good$/);
});
