import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { Batcher } from '../../src/dispatcher/batcher.ts';
import { until } from '../support/until.ts';

function setUp(bounds = { batchJobsMax: 3, batchesInFlightMax: 2 }) {
  const waiting: number[] = [];
  const batches: (readonly number[])[] = [];
  const ends: (() => void)[] = [];
  const batcher = new Batcher<number>(
    systemClock,
    bounds,
    (countMax) => waiting.splice(0, countMax),
    (batch) => {
      batches.push(batch);
      return new Promise((resolve) => ends.push(resolve));
    },
  );
  const offer = (...items: number[]) => {
    waiting.push(...items);
    batcher.nudge();
  };
  return { waiting, batches, ends, batcher, offer };
}

await t.test('one job alone is a batch at once', async (t) => {
  const { batches, offer } = setUp();
  offer(1);
  await until(() => batches.length === 1, 'a batch');
  t.same(batches, [[1]]);
});

await t.test(
  'what waits while the batches in flight run becomes the next batch, up to its bound',
  async (t) => {
    const { batches, ends, offer, batcher, waiting } = setUp();
    offer(1);
    await until(() => batches.length === 1, 'the first batch');
    offer(2);
    await until(() => batches.length === 2, 'the second batch');
    offer(3, 4, 5, 6);
    t.equal(batcher.inFlight, 2, 'no third batch');
    t.equal(waiting.length, 4);
    ends[0]?.();
    await until(() => batches.length === 3, 'the third batch');
    t.same(batches[2], [3, 4, 5]);
  },
);

await t.test('close waits for the batches in flight and starts no other', async (t) => {
  const { batches, ends, offer, batcher } = setUp();
  offer(1);
  await until(() => batches.length === 1, 'a batch');
  let isClosed = false;
  const close = async () => {
    await batcher.close();
    isClosed = true;
  };
  const closed = close();
  offer(2);
  t.equal(isClosed, false);
  ends[0]?.();
  await closed;
  t.equal(batches.length, 1);
});
