import { MongoClient } from 'mongodb';
import t from 'tap';
import type { OutMessage, Publisher } from '../../src/broker/types.ts';
import { QUEUE } from '../../src/contracts/names.ts';
import { StoreError } from '../../src/errors.ts';
import { MongoTraceSink } from '../../src/traces/sink.ts';
import { TraceSpool } from '../../src/traces/spool.ts';
import { MongoTraceStore } from '../../src/traces/store.ts';
import { isolatedServers, type Teardown } from '../support/servers.ts';
import { until } from '../support/until.ts';
import {
  attempt,
  CONTENT_MARKER,
  connectMongo,
  event,
  recordingLog,
  request,
  startBroker,
  tracesConfig,
} from './fixtures.ts';
import { flakyLink, type LinkMode } from './flaky-link.ts';

/** A sink over a link that can fail, with a real broker behind its spool. */
async function sinkOverLink(
  t: Teardown,
  { mode = 'open', spoolBytesMax }: { mode?: LinkMode; spoolBytesMax?: number } = {},
) {
  const servers = await isolatedServers(t, { mongo: true, amqp: true });
  const broker = await startBroker(t, servers.amqpUrl, spoolBytesMax);
  const link = await flakyLink(t, servers.mongoUrl, mode);
  const { log, lines } = recordingLog();
  const mongo = await connectMongo(t, link.url, { log, isEnsured: mode === 'open' });
  const spooled = { documents: 0 };
  const metrics = {
    spooled: (documents: number) => {
      spooled.documents += documents;
    },
  };
  const published: OutMessage[] = [];
  const publisher: Publisher = {
    publish: (message) => broker.publisher.publish(message),
    publishBatch: (messages) => {
      published.push(...messages);
      return broker.publisher.publishBatch(messages);
    },
  };
  const sink = new MongoTraceSink(log, metrics, mongo, new TraceSpool(tracesConfig(), publisher));
  return { ...servers, sink, mongo, link, lines, spooled, published };
}

await t.test('while MongoDB is up everything goes there and nothing to the spool', async (t) => {
  const { sink, mongo, spooled } = await sinkOverLink(t);
  const one = request();
  await sink.writeRequests([one]);
  await sink.writeAttempts([attempt(one)]);
  await sink.writeEvents([event(one)]);
  await sink.writeRequests([]);
  const trace = await new MongoTraceStore(mongo).findJob(one.job);
  t.same(trace, { job: one.job, request: one, routes: [], attempts: [attempt(one)], events: [event(one)] });
  t.equal(spooled.documents, 0);
});

await t.test('a cut server sends traces to the spool at once, and its return ends that', async (t) => {
  const { sink, mongo, link, spooled, published, lines } = await sinkOverLink(t);
  const changes: boolean[] = [];
  mongo.onChange((isUp) => changes.push(isUp));
  link.set('cut');
  await until(() => !mongo.isUp, 'the cut to be seen');
  t.match(mongo.dependency, { name: 'mongodb', isUp: false });
  const startedMs = performance.now();
  const batch = [request(), request()];
  for (let i = 0; i < 20; i++) await sink.writeRequests(batch);
  t.ok(performance.now() - startedMs < 10_000, 'of twenty batches none waited for MongoDB');
  t.equal(spooled.documents, 40);
  t.ok(published.every((message) => message.routingKey === QUEUE.spool && message.mandatory));
  link.set('open');
  await until(() => mongo.isUp, 'MongoDB to be back');
  await sink.writeRequests(batch);
  t.equal(spooled.documents, 40);
  t.same(changes, [false, true]);
  t.notMatch(lines.join('\n'), new RegExp(CONTENT_MARKER));
});

await t.test('a server that stops answering costs one batch its time, and no other', async (t) => {
  const { sink, mongo, link, spooled } = await sinkOverLink(t);
  link.set('frozen');
  const startedMs = performance.now();
  await sink.writeRequests([request()]);
  const firstMs = performance.now() - startedMs;
  t.ok(firstMs < 10_000, `the first waited writeMsMax (${Math.round(firstMs)} ms)`);
  await sink.writeRequests([request()]);
  t.ok(performance.now() - startedMs - firstMs < firstMs / 2, 'the second did not');
  t.equal(spooled.documents, 2);
  t.notOk(mongo.isUp);
  link.set('open');
  await until(() => mongo.isUp, 'MongoDB to be back');
});

await t.test('a server that hears but loses writes stays away until a probe is written', async (t) => {
  const { sink, mongo, link, spooled } = await sinkOverLink(t);
  const changes: boolean[] = [];
  mongo.onChange((isUp) => changes.push(isUp));
  link.set('writes-lost');
  await sink.writeRequests([request()]);
  t.notOk(mongo.isUp);
  // Long enough for several heartbeats and a probe that is lost as well.
  const endMs = performance.now() + 2_500;
  await until(() => performance.now() > endMs, 'heartbeats to pass');
  t.same(changes, [false]);
  link.set('open');
  await until(() => mongo.isUp, 'a probe to be written');
  await sink.writeRequests([request()]);
  t.equal(spooled.documents, 1);
});

await t.test(
  'a server that was never there: the spool takes all, and it is found when it comes',
  async (t) => {
    const { sink, mongo, link, spooled } = await sinkOverLink(t, { mode: 'cut' });
    t.notOk(mongo.isUp);
    await sink.writeEvents([event(request())]);
    t.equal(spooled.documents, 1);
    const store = new MongoTraceStore(mongo);
    await t.rejects(store.findJob(request().job), StoreError);
    link.set('open');
    await until(() => mongo.isUp, 'MongoDB to be found');
    await sink.writeEvents([event(request())]);
    t.equal(spooled.documents, 1);
  },
);

await t.test('a full spool throws a StoreError that says so, and nothing is taken for written', async (t) => {
  const { sink, mongo, link } = await sinkOverLink(t, { spoolBytesMax: 20_000 });
  link.set('cut');
  await until(() => !mongo.isUp, 'the cut to be seen');
  const writeUntilFull = async () => {
    for (let i = 0; i < 200; i++) await sink.writeRequests([request({ body: Buffer.alloc(4_000) })]);
  };
  const error = await writeUntilFull().catch((fault: unknown) => fault);
  if (!(error instanceof StoreError)) throw new Error('the spool never filled');
  t.match(error.message, /TG_SPOOL_FULL.*nacked/);
  t.equal(error.code, 'TG_STORE_UNAVAILABLE');
});

await t.test('a spool queue that does not exist is not taken for written either', async (t) => {
  const { sink, mongo, link, amqpAdminUrl, vhost } = await sinkOverLink(t);
  const { username, password, origin } = new URL(amqpAdminUrl);
  const headers = { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` };
  await fetch(`${origin}/api/queues/${vhost}/${QUEUE.spool}`, { method: 'DELETE', headers });
  link.set('cut');
  await until(() => !mongo.isUp, 'the cut to be seen');
  await t.rejects(sink.writeRequests([request()]), { message: /TG_SPOOL_FULL.*returned/ });
});

await t.test('a document that MongoDB refuses for good surfaces, and the others are written', async (t) => {
  const { sink, mongo, mongoUrl, spooled, lines } = await sinkOverLink(t);
  const client = new MongoClient(mongoUrl);
  t.after(() => client.close());
  await client.db().command({ collMod: 'requests', validator: { priority: { $ne: 'refused-here' } } });
  const good = request();
  const bad = request({ priority: 'refused-here' });
  await t.rejects(sink.writeRequests([good, bad, good]), { code: 'TG_STORE_REJECTED', indexes: [1] });
  t.ok(await new MongoTraceStore(mongo).findJob(good.job));
  t.ok(mongo.isUp, 'the server is not blamed');
  t.equal(spooled.documents, 0);
  t.notMatch(lines.join('\n'), new RegExp(CONTENT_MARKER));
});
