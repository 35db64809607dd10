import t from 'tap';
import { Coalescer } from '../../src/dispatcher/coalescer.ts';
import { until } from '../support/until.ts';

/** Of a consumer that may have 16 deliveries unanswered. */
interface Item {
  readonly consumer: { readonly prefetch: number };
  readonly isAwaited: boolean;
}

const consumer = { prefetch: 16 };

function items(count: number, change: Partial<Item> = {}): Item[] {
  return Array.from({ length: count }, () => ({ consumer, isAwaited: false, ...change }));
}

/** Resolves when all promises that are due have been heard. */
function turn(): Promise<string> {
  return new Promise((resolve) => setImmediate(resolve, 'a turn'));
}

/** A coalescer whose time passes when the test says so, and whose batches end when the test says so. */
function setUp(bounds = { batchJobsMax: 100, batchEndsMax: 2, gatherMs: 25 }) {
  let nowMs = 0;
  const timers = new Map<object, { readonly atMs: number; readonly call: () => void }>();
  const turns: (() => void)[] = [];
  const batches: (readonly Item[])[] = [];
  const ends: (() => void)[] = [];
  const clock = {
    monotonicMs: () => nowMs,
    soon: (call: () => void) => void turns.push(call),
    after: (ms: number, call: () => void) => {
      const timer = {};
      timers.set(timer, { atMs: nowMs + ms, call });
      return () => void timers.delete(timer);
    },
  };
  const coalescer = new Coalescer<Item>(
    clock,
    bounds,
    (item) => item,
    (batch) => {
      batches.push(batch);
      return new Promise((resolve) => ends.push(resolve));
    },
  );
  const pass = (ms: number): void => {
    nowMs += ms;
    for (const [timer, { atMs, call }] of timers) if (atMs <= nowMs && timers.delete(timer)) call();
  };
  /** Of the batches so far, when this turn has ended. */
  const sizes = (): number[] => {
    for (const call of turns.splice(0)) call();
    return turns.length > 0 ? sizes() : batches.map(({ length }) => length);
  };
  return { coalescer, sizes, ends, pass, timers };
}

await t.test('what comes after a quiet time goes at the end of the turn', (t) => {
  const { coalescer, sizes, pass, timers } = setUp();
  coalescer.offer(items(1));
  coalescer.offer(items(1));
  t.same(sizes(), [2]);
  pass(25);
  coalescer.offer(items(3));
  t.same(sizes(), [2, 3]);
  t.equal(timers.size, 0);
  t.end();
});

await t.test('what follows goes together, `gatherMs` after the last, whether that has ended or not', (t) => {
  const { coalescer, sizes, pass, timers } = setUp();
  coalescer.offer(items(1));
  t.same(sizes(), [1]);
  pass(5);
  coalescer.offer(items(1));
  coalescer.offer(items(2));
  t.same(sizes(), [1]);
  t.equal(timers.size, 1, 'one timer for all');
  pass(19);
  t.same(sizes(), [1]);
  pass(1);
  t.same(sizes(), [1, 3]);
  t.equal(timers.size, 0);
  t.end();
});

await t.test('a quarter of what a consumer may have unanswered does not wait', (t) => {
  const { coalescer, sizes, timers } = setUp();
  coalescer.offer(items(1));
  t.same(sizes(), [1]);
  coalescer.offer(items(3));
  coalescer.offer(items(3, { consumer: { prefetch: 16 } }));
  t.same(sizes(), [1], 'three each of two consumers wait');
  coalescer.offer(items(1));
  t.same(sizes(), [1, 7], 'the fourth takes all with it');
  t.equal(timers.size, 0, 'and the timer is gone');
  t.end();
});

await t.test('what others wait for does not wait', (t) => {
  const { coalescer, sizes } = setUp();
  coalescer.offer(items(1));
  t.same(sizes(), [1]);
  coalescer.offer(items(1));
  coalescer.offer(items(1, { isAwaited: true }));
  t.same(sizes(), [1, 2]);
  t.end();
});

await t.test('batches and their number are bounded; what is beyond waits, and room says so', async (t) => {
  const { coalescer, sizes, ends } = setUp();
  coalescer.offer(items(320));
  t.same(sizes(), [100, 100]);
  const room = coalescer.room().then(() => 'room');
  t.equal(await Promise.race([room, turn()]), 'a turn', '120 wait');
  ends[1]?.();
  await room;
  t.same(sizes(), [100, 100, 100], 'a full batch does not wait for the time');
  ends[0]?.();
  await until(() => sizes().length === 4, 'the rest');
  t.same(sizes(), [100, 100, 100, 20]);
});

await t.test('without a time to gather only the end of the turn is waited for', (t) => {
  const { coalescer, sizes, timers } = setUp({ batchJobsMax: 100, batchEndsMax: 2, gatherMs: 0 });
  coalescer.offer(items(1));
  t.same(sizes(), [1]);
  coalescer.offer(items(1));
  t.same(sizes(), [1, 1]);
  t.equal(timers.size, 0);
  t.end();
});

await t.test('close lets everything go, and waits for it', async (t) => {
  const { coalescer, sizes, ends } = setUp();
  coalescer.offer(items(1));
  t.same(sizes(), [1]);
  coalescer.offer(items(2));
  const closed = coalescer.close().then(() => 'closed');
  t.same(sizes(), [1, 2]);
  ends[0]?.();
  t.equal(await Promise.race([closed, turn()]), 'a turn', 'one still runs');
  ends[1]?.();
  await closed;
  coalescer.offer(items(1));
  t.same(sizes(), [1, 2, 1], 'the last of a batch under way goes at once');
});
