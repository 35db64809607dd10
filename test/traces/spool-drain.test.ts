import { MongoClient } from 'mongodb';
import t from 'tap';
import type { AmqpBroker } from '../../src/broker/connection.ts';
import { QUEUE } from '../../src/contracts/names.ts';
import { ENCODERS } from '../../src/traces/documents.ts';
import { MongoTraceSink } from '../../src/traces/sink.ts';
import { encodeSpooled, TraceSpool } from '../../src/traces/spool.ts';
import { SpoolDrain } from '../../src/traces/spool-drain.ts';
import { MongoTraceStore } from '../../src/traces/store.ts';
import { isolatedServers, type Teardown } from '../support/servers.ts';
import { until } from '../support/until.ts';
import {
  attempt,
  connectMongo,
  event,
  recordingLog,
  request,
  startBroker,
  tracesConfig,
} from './fixtures.ts';
import { flakyLink } from './flaky-link.ts';

async function drainOverLink(t: Teardown) {
  const servers = await isolatedServers(t, { mongo: true, amqp: true });
  const broker = await startBroker(t, servers.amqpUrl);
  const link = await flakyLink(t, servers.mongoUrl);
  const { log, lines } = recordingLog();
  const mongo = await connectMongo(t, link.url, { log });
  const sink = new MongoTraceSink(
    log,
    { spooled: () => {} },
    mongo,
    new TraceSpool(tracesConfig(), broker.publisher),
  );
  const buried: { body: Buffer; reason: string }[] = [];
  const bury = async (body: Buffer, reason: string) => {
    buried.push({ body, reason });
  };
  const drain = new SpoolDrain(tracesConfig(), log, mongo, broker, bury);
  t.after(() => drain.stop());
  return {
    ...servers,
    broker,
    link,
    log,
    lines,
    mongo,
    sink,
    store: new MongoTraceStore(mongo),
    buried,
    drain,
  };
}

/** Puts a message into the spool as it is. */
async function spool(broker: AmqpBroker, body: Buffer): Promise<void> {
  const message = { exchange: '', routingKey: QUEUE.spool, body, messageId: 'test', mandatory: true };
  if ((await broker.publisher.publish(message)) !== 'confirmed') throw new Error('not confirmed');
}

/** What the queue still holds, unacknowledged ones included: takes all of it by a consumer that answers nothing. */
async function leftIn(broker: AmqpBroker, queue: string): Promise<number> {
  const channel = await broker.openChannel(() => {});
  let count = 0;
  await channel.consume(queue, 100, () => {
    count += 1;
  });
  const endMs = performance.now() + 300;
  await until(() => performance.now() > endMs, 'deliveries to arrive');
  await channel.close();
  return count;
}

await t.test('after an outage the drain brings exactly the documents that were written', async (t) => {
  const { broker, link, mongo, sink, store, drain, buried } = await drainOverLink(t);
  await drain.start();
  link.set('cut');
  await until(() => !mongo.isUp, 'the cut to be seen');
  const requests = Array.from({ length: 30 }, () => request({ body: Buffer.alloc(40_000, 'x') }));
  await sink.writeRequests(requests);
  await sink.writeAttempts(requests.map((each) => attempt(each)));
  await sink.writeEvents(requests.map((each) => event(each)));
  link.set('open');
  for (const one of requests) {
    const trace = await until(async () => {
      const found = await store.findJob(one.job);
      return found?.attempts.length === 1 && found.events.length === 1 ? found : null;
    }, `the trace of ${one.job}`);
    t.same(trace, { job: one.job, request: one, routes: [], attempts: [attempt(one)], events: [event(one)] });
  }
  t.same(buried, []);
  await drain.stop();
  t.equal(await leftIn(broker, QUEUE.spool), 0);
});

await t.test('what is drained twice, or was written before, is there once', async (t) => {
  const { broker, sink, store, drain } = await drainOverLink(t);
  const [one, two] = [request(), request()];
  await sink.writeRequests([one]);
  const bodies = encodeSpooled('requests', [one, two].map(ENCODERS.requests), 524_288);
  for (const body of [...bodies, ...bodies]) await spool(broker, body);
  await drain.start();
  await until(() => store.findJob(two.job), 'the spooled request');
  t.same((await store.findJob(one.job))?.request, one);
  await until(async () => {
    await drain.stop();
    return (await leftIn(broker, QUEUE.spool)) === 0;
  }, 'the spool to be empty');
  t.equal((await store.findByTime({ account: 'acme', fromMs: 0, toMs: 9e15, limit: 10 })).length, 2);
});

await t.test('poison is buried with its reason and does not hold up what is behind it', async (t) => {
  const { broker, mongoUrl, store, drain, buried, lines } = await drainOverLink(t);
  const client = new MongoClient(mongoUrl);
  t.after(() => client.close());
  await client.db().command({ collMod: 'requests', validator: { priority: { $ne: 'refused-here' } } });
  const [first, last] = [request(), request()];
  const refused = encodeSpooled(
    'requests',
    [first, request({ priority: 'refused-here' })].map(ENCODERS.requests),
    524_288,
  )[0];
  const noise = Buffer.from('no spool message');
  await spool(broker, noise);
  await spool(broker, refused ?? noise);
  for (const body of encodeSpooled('requests', [ENCODERS.requests(last)], 524_288)) await spool(broker, body);
  await drain.start();
  await until(() => store.findJob(last.job), 'the message behind the poison');
  await until(() => buried.length === 2, 'both to be buried');
  t.ok(await store.findJob(first.job), 'the good document beside the refused one is written');
  t.match(buried, [
    { body: noise, reason: 'not a spool message' },
    { body: refused, reason: /TG_STORE_REJECTED/ },
  ]);
  t.equal(lines.filter((line) => line.includes('is buried')).length, 2);
  await drain.stop();
  t.equal(await leftIn(broker, QUEUE.spool), 0);
  t.equal(buried.length, 2, 'once each');
});

await t.test('poison that cannot be buried stays in the spool', async (t) => {
  const { broker, log, mongo } = await drainOverLink(t);
  let tries = 0;
  const drain = new SpoolDrain(tracesConfig(), log, mongo, broker, async () => {
    tries += 1;
    throw new Error('the dead-letter queue is gone');
  });
  t.after(() => drain.stop());
  await spool(broker, Buffer.from('no spool message'));
  await drain.start();
  await until(() => tries >= 2, 'a second try');
  await drain.stop();
  t.equal(await leftIn(broker, QUEUE.spool), 1);
});

await t.test('a drain that is stopped, or loses MongoDB half-way, loses nothing', async (t) => {
  const { broker, link, mongo, store, drain } = await drainOverLink(t);
  const requests = Array.from({ length: 40 }, () => request());
  for (const one of requests) {
    for (const body of encodeSpooled('requests', [ENCODERS.requests(one)], 524_288))
      await spool(broker, body);
  }
  link.set('writes-lost');
  await drain.start();
  await until(() => !mongo.isUp, 'a write of the drain to fail');
  link.set('open');
  await until(async () => {
    return (await store.findMissingRequests(requests.map((each) => each.job))).length === 0;
  }, 'all of them to be written');
  await drain.stop();
  await drain.stop();
  t.equal(await leftIn(broker, QUEUE.spool), 0);
});
