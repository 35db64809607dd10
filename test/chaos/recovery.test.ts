import t from 'tap';
import type { DoneFault } from '../../chaos/nemesis.ts';
import { figuresOf, recoveriesOf } from '../../chaos/recovery.ts';

function killed(fromMs: number, toMs: number): DoneFault {
  return {
    fault: { kind: 'kill', coordinator: 0 },
    what: 'kill',
    fromMs,
    toMs,
    isReached: true,
    error: null,
  };
}

await t.test(
  'recovery ends with the first new lock and the first new settlement, whichever is later',
  async (t) => {
    const progress = { locksAtMs: [50, 105, 150], resolutionsAtMs: [60, 109, 140, 170] };
    const { seen, interrupted } = recoveriesOf([killed(100, 110)], progress, 2);
    t.same(seen, [{ group: 'kill', ms: 40 }]);
    t.equal(interrupted, 0);
  },
);

await t.test('a fault that the next one follows too soon has no recovery of its own', async (t) => {
  const { seen, interrupted } = recoveriesOf(
    [killed(100, 110), killed(120, 130)],
    {
      locksAtMs: [150],
      resolutionsAtMs: [140],
    },
    1,
  );
  t.same(seen, [{ group: 'kill alone', ms: 20 }]);
  t.equal(interrupted, 1);
});

await t.test('a fault during which another one was on has none either', async (t) => {
  const progress = { locksAtMs: [150, 400], resolutionsAtMs: [140, 400] };
  const { seen, interrupted } = recoveriesOf([killed(100, 300), killed(110, 120)], progress, 2);
  t.same(seen, [{ group: 'kill', ms: 100 }]);
  t.equal(interrupted, 1);
});

function many(group: string, count: number): { group: string; ms: number }[] {
  return Array.from({ length: count }, (_, i) => ({ group, ms: i + 1 }));
}

await t.test('figures are by group', async (t) => {
  t.same(figuresOf([...many('kill', 100), ...many('flush', 1)]), {
    flush: { faults: 1, p50Ms: 1, p99Ms: 1, maxMs: 1 },
    kill: { faults: 100, p50Ms: 50, p99Ms: 99, maxMs: 100 },
  });
});
