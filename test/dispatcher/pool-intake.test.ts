import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import type { Broker, ConsumerChannel, Delivery } from '../../src/broker/types.ts';
import { loadConfig } from '../../src/config.ts';
import { TollgateError } from '../../src/errors.ts';
import { ByteBudget } from '../../src/dispatcher/byte-budget.ts';
import { PoolIntake } from '../../src/dispatcher/pool-intake.ts';
import { SeenJobs } from '../../src/dispatcher/seen-jobs.ts';
import { Suspects } from '../../src/dispatcher/suspects.ts';
import type { Arrival } from '../../src/dispatcher/types.ts';
import { PrometheusMetrics } from '../../src/ops/metrics.ts';
import { quietLog } from '../support/ledger.ts';
import { until } from '../support/until.ts';
import { jobMessage, NO_LIMITS, PaperDelivery } from './samples.ts';

const ignore = (): void => undefined;

/** The turn of the event loop is over. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

/**
 * The states of one pool's intake, with a clock that stands still and a broker on paper: what is proved here is when it pauses,
 * holds and hands back. How it works on a real broker is in the tests of whole lines.
 */
function setUp(bounds: { heldBytesMax?: number } = {}) {
  const { line } = loadConfig({ env: {}, needs: [] });
  let nowMs = 1_000;
  const clock = { ...systemClock, nowMs: () => nowMs, monotonicMs: () => nowMs };
  const consumers: {
    queue: string;
    prefetch: number;
    give: (delivery: Delivery) => void;
    /** The broker ends it. */
    end: () => void;
    isCancelled: boolean;
  }[] = [];
  let gone = ignore;
  let isRefusing = false;
  /** What the intake did about its queues, and said at level error. */
  const calls: string[] = [];
  const channel: ConsumerChannel = {
    consume: async (queue, prefetch, give, end = ignore) => {
      const consumer = { queue, prefetch, give, end, isCancelled: false };
      consumers.push(consumer);
      const cancel = async () => {
        consumer.isCancelled = true;
      };
      return { queue, prefetch, cancel };
    },
    close: async () => void calls.push('close'),
  };
  const broker: Broker = {
    publisher: { publish: async () => 'confirmed', publishBatch: async () => [] },
    onChange: () => ignore,
    isUp: true,
    openChannel: async (onGone) => {
      gone = onGone;
      return channel;
    },
  };
  const offered: Arrival[] = [];
  const counts = { count: async () => 1, clear: async () => undefined };
  const budget = new ByteBudget(bounds.heldBytesMax ?? line.heldBytesMax);
  const intake = new PoolIntake('small', {
    broker,
    declarePool: async () => {
      calls.push('declare');
      if (isRefusing) throw new TollgateError('TG_STORE_REJECTED', 'rabbitmq: no');
    },
    forgetPool: () => void calls.push('forget'),
    line: {
      offer: (arrival) => void offered.push(arrival),
      offerAgain: (arrivals) => void offered.push(...arrivals),
    },
    bounds: line,
    budget,
    suspects: new Suspects(counts, line, clock, quietLog),
    seen: new SeenJobs(clock),
    limits: NO_LIMITS,
    clock,
    log: { ...quietLog, error: (_fields, text) => void calls.push(text) },
    metrics: new PrometheusMetrics(),
  });
  const refuse = (isOn: boolean) => {
    isRefusing = isOn;
  };
  const open = async () => {
    await until(() => {
      if (intake.state === 'paused') intake.look({ total: 40, free: 4 });
      return consumers.filter((one) => !one.isCancelled).length === 2;
    }, 'two consumers');
  };
  const deliver = (change: Partial<Delivery> = {}) => {
    const delivery = new PaperDelivery(jobMessage(), change);
    consumers.findLast((one) => one.queue === 'jobs.small.interactive')?.give(delivery);
    return delivery;
  };
  const pass = (ms: number) => {
    nowMs += ms;
  };
  /** Whatever a look began has happened: nothing on paper takes longer than a turn. */
  return { intake, open, deliver, offered, consumers, pass, budget, calls, refuse, gone: () => gone() };
}

await t.test('a pool without a worker is not consumed', async (t) => {
  const { intake, consumers } = setUp();
  intake.look(undefined);
  await settled();
  t.equal(consumers.length, 0);
  t.equal(intake.state, 'paused');
});

await t.test(
  'a pool without a free slot is tried at the start, and after a pause only now and then',
  async (t) => {
    const { intake, open, deliver, offered, pass, consumers } = setUp();
    const full = { total: 40, free: 0 };
    intake.look(full);
    await settled();
    t.equal(consumers.length, 2, 'what was locked before the start needs no slot');
    await open();
    deliver();
    for (const arrival of offered.splice(0)) intake.hold(arrival);
    pass(1_100);
    intake.look(full);
    await until(() => consumers.every((one) => one.isCancelled), 'a pause');
    await settled();
    pass(900);
    intake.look(full);
    await settled();
    t.equal(consumers.length, 2, 'not yet');
    pass(200);
    intake.look(full);
    await settled();
    t.equal(consumers.length, 4);
  },
);

await t.test(
  'suspects go through a full pool one after the other, and none waits there for a slot',
  async (t) => {
    const { intake, open, deliver, offered } = setUp();
    await open();
    deliver();
    for (const arrival of offered.splice(0)) intake.hold(arrival);
    t.equal(intake.state, 'full');
    for (let suspect = 0; suspect < 3; suspect++) deliver({ redelivered: true });
    for (let suspect = 0; suspect < 3; suspect++) {
      await settled();
      const passed = offered.splice(0);
      t.equal(passed.length, 1);
      for (const arrival of passed) intake.hold(arrival);
    }
    t.equal(intake.held, 4);
  },
);

await t.test('the prefetch follows the slots of the pool within its bounds', async (t) => {
  const { open, consumers } = setUp();
  await open();
  t.same(
    consumers.map(({ queue, prefetch }) => [queue, prefetch]),
    [
      ['jobs.small.interactive', 40],
      ['jobs.small.batch', 40],
    ],
  );
});

await t.test(
  'one job that finds no slot is handed back after a second, however often it is tried',
  async (t) => {
    const { intake, open, deliver, offered, pass, consumers } = setUp();
    await open();
    const delivery = deliver();
    for (let look = 0; look < 4; look++) {
      const arrival = offered.pop();
      if (arrival) intake.hold(arrival);
      t.equal(intake.held, 1);
      t.same(delivery.answers, []);
      pass(400);
      intake.look({ total: 40, free: 0 });
      if (intake.state === 'paused') break;
    }
    await until(() => delivery.answers.length > 0, 'an answer');
    t.same(delivery.answers, ['requeue']);
    t.ok(consumers.every((one) => one.isCancelled));
  },
);

await t.test('a wake-up that overtakes jobs on their way back lets them try again, once', async (t) => {
  const { intake, open, deliver, offered } = setUp();
  await open();
  for (let i = 0; i < 3; i++) deliver();
  const refused = offered.splice(0);
  intake.wake();
  t.same(offered, [], 'nothing is held yet');
  for (const arrival of refused) intake.hold(arrival);
  await until(() => offered.length === 3, 'all three to be offered again');
  for (const arrival of offered.splice(0)) intake.hold(arrival);
  await Promise.resolve();
  t.same(offered, [], 'their own refusal left a mark for the next slot');
  t.equal(intake.held, 3);
});

await t.test('as long as jobs are placed the others wait here', async (t) => {
  const { intake, open, deliver, offered, pass } = setUp();
  await open();
  const deliveries = [deliver(), deliver()];
  for (let look = 0; look < 10; look++) {
    for (const arrival of offered.splice(0)) intake.hold(arrival);
    intake.placed(0);
    pass(500);
    intake.look({ total: 40, free: 0 });
  }
  t.not(intake.state, 'paused');
  t.same(
    deliveries.flatMap((delivery) => delivery.answers),
    [],
  );
});

await t.test('nothing is held longer than its wait or the longest hold', async (t) => {
  const { intake, open, deliver, offered, pass } = setUp();
  await open();
  const delivery = deliver();
  for (let look = 0; look < 80 && delivery.answers.length === 0; look++) {
    for (const arrival of offered.splice(0)) intake.hold(arrival);
    intake.placed(0);
    pass(500);
    intake.look({ total: 40, free: 0 });
  }
  t.same(delivery.answers, ['requeue']);
});

await t.test('a wake-up lets the held try again', async (t) => {
  const { intake, open, deliver, offered } = setUp();
  await open();
  deliver();
  for (const arrival of offered.splice(0)) intake.hold(arrival);
  t.equal(intake.state, 'full');
  intake.wake();
  t.equal(offered.length, 1);
  t.equal(intake.state, 'open');
});

await t.test('too many bytes in hand pause the pool, and their answers open it again', async (t) => {
  const { intake, open, deliver, offered, budget, consumers } = setUp({ heldBytesMax: 1_048_576 });
  await open();
  budget.add(2_000_000);
  deliver();
  intake.look({ total: 40, free: 4 });
  await until(() => consumers.every((one) => one.isCancelled), 'a pause');
  const [arrival] = offered;
  if (arrival) intake.left(arrival);
  budget.add(-2_000_000);
  t.equal(budget.bytes, 0, 'every byte was given back');
  await open();
  t.equal(intake.state, 'open');
});

await t.test('an arrival that is answered twice gives its bytes back once', async (t) => {
  const { intake, open, deliver, offered, budget } = setUp();
  await open();
  deliver();
  const { body } = deliver();
  const [first] = offered;
  if (first) for (let i = 0; i < 2; i++) intake.left(first);
  t.equal(budget.bytes, body.length, 'those of the other are still counted');
});

await t.test('a lost channel forgets what was held: the broker brings it again', async (t) => {
  const { intake, open, deliver, offered, gone, budget } = setUp();
  await open();
  deliver();
  for (const arrival of offered.splice(0)) intake.hold(arrival);
  gone();
  t.equal(intake.held, 0);
  t.equal(intake.state, 'paused');
  t.equal(budget.bytes, 0);
});

await t.test(
  'a pool whose queue is deleted declares it again, and gives back what it has of the other',
  async (t) => {
    const { intake, open, deliver, offered, consumers, budget, calls } = setUp();
    await open();
    deliver();
    deliver();
    const [held, underWay] = offered.splice(0);
    if (held === undefined || underWay === undefined) throw new Error('two jobs were delivered');
    intake.hold(held);
    t.equal(intake.held, 1);
    consumers[1]?.end();
    t.same(calls, ['declare', 'forget', 'close'], 'a closed channel gives back all that is unanswered');
    t.equal(intake.state, 'paused');
    t.equal(intake.held, 0);
    intake.left(underWay);
    t.notOk(budget.isOver);
    t.equal(intake.heldBy('acme'), 0);
    consumers[0]?.end();
    t.same(calls.slice(3), ['forget'], 'there is nothing left to close');
    intake.look({ total: 40, free: 4 });
    await settled();
    t.same(calls.slice(4), ['declare']);
    t.equal(consumers.length, 4);
    t.equal(intake.state, 'open');
  },
);

await t.test('a pool that the broker refuses says so once, and is tried every five seconds', async (t) => {
  const { intake, pass, consumers, calls, refuse } = setUp();
  const look = async (ms: number) => {
    pass(ms);
    intake.look({ total: 40, free: 4 });
    await settled();
    return calls.splice(0);
  };
  refuse(true);
  const told = 'the queues of a pool cannot be consumed';
  t.same(await look(0), ['declare', told, 'forget']);
  t.same(await look(4_900), []);
  t.same(await look(200), ['declare', 'forget']);
  refuse(false);
  t.same(await look(5_000), ['declare']);
  t.equal(consumers.length, 2);
  refuse(true);
  consumers[0]?.end();
  t.same(await look(0), ['forget', 'close', 'declare', told, 'forget'], 'after it was consumed, again');
});

await t.test('stop hands back what waits here', async (t) => {
  const { intake, open, deliver, offered } = setUp();
  await open();
  const delivery = deliver();
  for (const arrival of offered.splice(0)) intake.hold(arrival);
  await intake.stop();
  t.same(delivery.answers, ['requeue']);
});
