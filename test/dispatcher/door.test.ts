import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { Door } from '../../src/dispatcher/door.ts';
import type { Exit } from '../../src/dispatcher/types.ts';
import { refusal } from '../../src/errors.ts';
import { until } from '../support/until.ts';
import { arrivalOf, jobMessage } from './samples.ts';

/** A door whose pauses end when the test says so. Each room of `samples` may have 16 deliveries unanswered. */
function setUp() {
  const pauses: { readonly ms: number; readonly end: () => void; isCancelled: boolean }[] = [];
  const batches: (readonly Exit[])[] = [];
  const clock = {
    soon: (call: () => void) => systemClock.soon(call),
    after: (ms: number, end: () => void) => {
      const pause = { ms, end, isCancelled: false };
      pauses.push(pause);
      return () => {
        pause.isCancelled = true;
      };
    },
  };
  const door = new Door(clock, { batchJobsMax: 512, refusalsGatherMs: 25 }, async (exits) => {
    batches.push(exits);
  });
  const pausing = (count: number) => until(() => pauses.length === count, `pause ${count}`);
  return { door, batches, pauses, pausing };
}

const { room } = arrivalOf(jobMessage());

/** Refusals of one consumer. */
function refusals(count: number): Exit[] {
  return Array.from({ length: count }, () => ({
    arrival: { ...arrivalOf(jobMessage()), room },
    outcome: { kind: 'limited', refusal: refusal('TG_RATE_LIMITED', 'account'), event: null },
  }));
}

await t.test('a refusal after a quiet time leaves at once', async (t) => {
  const { door, batches, pauses, pausing } = setUp();
  const [first, second] = [refusals(1), refusals(1)];
  door.offer(first);
  await pausing(1);
  t.same(batches, [first]);
  pauses[0]?.end();
  await until(() => pauses[0]?.isCancelled, 'the end of the pause');
  door.offer(second);
  await pausing(2);
  t.same(batches, [first, second]);
});

await t.test('those that follow it leave together when the pause is over', async (t) => {
  const { door, batches, pauses, pausing } = setUp();
  door.offer(refusals(1));
  await pausing(1);
  t.equal(pauses[0]?.ms, 25);
  for (const exit of refusals(3)) door.offer([exit]);
  await new Promise(setImmediate);
  t.equal(batches.length, 1, 'they are gathered');
  pauses[0]?.end();
  await pausing(2);
  t.equal(batches[1]?.length, 3);
});

await t.test('never with a quarter of what their consumer may have unanswered', async (t) => {
  const { door, batches, pausing } = setUp();
  door.offer(refusals(1));
  await pausing(1);
  door.offer(refusals(3));
  door.offer(refusals(1).map((exit) => ({ ...exit, arrival: arrivalOf(jobMessage()) })));
  await new Promise(setImmediate);
  t.equal(batches.length, 1, 'three of one consumer and one of another');
  door.offer(refusals(1));
  await pausing(2);
  t.equal(batches[1]?.length, 5, 'the fourth ends the pause for all');
});

await t.test('a batch as large as that is followed by no pause', async (t) => {
  const { door, batches, pauses, pausing } = setUp();
  door.offer(refusals(1));
  await pausing(1);
  door.offer(refusals(600));
  await until(() => batches.length === 3, 'the rest');
  t.same(
    batches.map(({ length }) => length),
    [1, 512, 88],
  );
  await pausing(2);
  t.equal(pauses.length, 2);
});

await t.test('closing waits for nothing, and hands over what has not begun', async (t) => {
  const { door, batches, pausing } = setUp();
  door.offer(refusals(1));
  await pausing(1);
  const late = refusals(2);
  door.offer(late);
  t.same(await door.close(), late);
  t.equal(batches.length, 1);
  door.offer(refusals(1));
  await new Promise(setImmediate);
  t.equal(batches.length, 1, 'a closed door answers nobody');
});
