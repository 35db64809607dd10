import t from 'tap';
import { POINTS } from '../../chaos/failpoints.ts';
import { describeFault, type Fault, scheduleOf, type Target } from '../../chaos/schedule.ts';

const SCALE = { coordinators: 2, fleets: 2, everyMs: 2_000, isFirstSpared: false };

function first(seed: number, count: number): { afterMs: number; fault: Fault }[] {
  const steps = scheduleOf(seed, SCALE);
  return Array.from({ length: count }, () => steps.next().value);
}

await t.test('a seed gives the same schedule again, and another seed another one', async (t) => {
  t.same(first(7, 200), first(7, 200));
  t.notSame(first(7, 20), first(8, 20));
});

await t.test(
  'every kind of fault and every failpoint comes, and the pauses are as long as asked for',
  async (t) => {
    const steps = first(1, 5_000);
    const kinds = new Set(steps.map(({ fault }) => fault.kind));
    t.equal(kinds.size, 21, [...kinds].join(', '));
    const killedAt = new Set(steps.map(({ fault }) => (fault.kind === 'kill_at' ? fault.point : '')));
    t.same(
      POINTS.map(({ name }) => name).filter((name) => !killedAt.has(name)),
      [],
    );
    const meanMs = steps.reduce((sum, { afterMs }) => sum + afterMs, 0) / steps.length;
    t.ok(Math.abs(meanMs - SCALE.everyMs) < 100, `${meanMs} ms`);
  },
);

await t.test('a failure is only asked of a point that can have it', async (t) => {
  const impossible = first(2, 5_000).filter(({ fault }) => {
    if (fault.kind !== 'fail_at') return false;
    const point = POINTS.find(({ name }) => name === fault.point);
    return point?.actions.includes(fault.action) !== true;
  });
  t.same(impossible, []);
});

await t.test('a fault is one line', async (t) => {
  const fault: Fault = { kind: 'link', link: 'redis', damage: { kind: 'slow', bytesPerS: 9 }, ms: 5 };
  t.equal(describeFault(fault), 'link link=redis damage=slow/9 ms=5');
});

await t.test('where faults overlap, each target has its own', async (t) => {
  const of = (target: Target) => {
    const steps = scheduleOf(1, SCALE, target);
    return Array.from({ length: 1_000 }, () => steps.next().value);
  };
  const [one, other, rest] = [of(0), of(1), of('surroundings')];
  t.ok(one.every(({ fault }) => 'coordinator' in fault && fault.coordinator === 0));
  t.ok(other.every(({ fault }) => 'coordinator' in fault && fault.coordinator === 1));
  t.notOk(rest.some(({ fault }) => 'coordinator' in fault || fault.kind === 'roll'));
  t.not(one.map(({ fault }) => fault.kind).join(), other.map(({ fault }) => fault.kind).join());
  const meanMs = rest.reduce((sum, { afterMs }) => sum + afterMs, 0) / rest.length;
  t.ok(meanMs > 5 * SCALE.everyMs, `${meanMs} ms between two of the surroundings`);
});

await t.test('in a soak the first coordinator is damaged and never ended', async (t) => {
  const steps = scheduleOf(1, { ...SCALE, isFirstSpared: true });
  const faults = Array.from({ length: 3_000 }, () => steps.next().value.fault);
  const ends = faults.filter(({ kind }) => ['kill', 'kill_at', 'drain'].includes(kind));
  t.ok(ends.length > 1_000);
  t.ok(ends.every((fault) => 'coordinator' in fault && fault.coordinator === 1));
  t.notOk(faults.some(({ kind }) => kind === 'roll'));
  t.ok(faults.some((fault) => fault.kind === 'pause' && fault.coordinator === 0));
});
