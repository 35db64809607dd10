import t from 'tap';
import { MongoConnection } from '../../src/traces/mongo.ts';
import { isolatedServers } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { recordingLog, request, serversConfig, tracesConfig } from './fixtures.ts';
import { flakyLink } from './flaky-link.ts';

const { mongoUrl } = await isolatedServers(t, { mongo: true });

function connection(url: string): MongoConnection {
  return new MongoConnection({ servers: serversConfig(url), traces: tracesConfig() }, recordingLog().log);
}

await t.test('start and stop may be called twice, and in any order', async (t) => {
  const never = connection(mongoUrl);
  await never.stop();
  await never.start();
  t.notOk(never.isUp, 'stopped before it was started');
  const twice = connection(mongoUrl);
  await Promise.all([twice.start(), twice.start()]);
  t.ok(twice.isUp);
  t.match(twice.dependency, { name: 'mongodb', isUp: true, detail: 'up' });
  await Promise.all([twice.stop(), twice.stop()]);
  t.notOk(twice.isUp);
});

await t.test('stop does not wait for a server that is not there', async (t) => {
  const link = await flakyLink(t, mongoUrl, 'frozen');
  const waiting = connection(link.url);
  const started = waiting.start();
  const startedMs = performance.now();
  await waiting.stop();
  await started;
  t.ok(performance.now() - startedMs < 1_000);
});

await t.test('a read fails at once while MongoDB is away', async (t) => {
  const link = await flakyLink(t, mongoUrl);
  const mongo = connection(link.url);
  t.after(() => mongo.stop());
  await mongo.start();
  link.set('cut');
  await until(() => !mongo.isUp, 'the cut to be seen');
  const startedMs = performance.now();
  await t.rejects(
    mongo.read((db) => db.collection('requests').findOne({})),
    { code: 'TG_STORE_UNAVAILABLE', store: 'mongodb' },
  );
  t.ok(performance.now() - startedMs < 1_000);
});

await t.test('documents are acknowledged by a majority and in the journal', async (t) => {
  const mongo = connection(mongoUrl);
  t.after(() => mongo.stop());
  await mongo.start();
  const concern = await mongo.read(async (db) => db.writeConcern);
  t.match(concern, { w: 'majority', journal: true });
  // A value that BSON cannot hold is refused before it is sent, and the server is not blamed.
  const circular: Record<string, unknown> = { _id: request().job };
  circular['self'] = circular;
  const good = { _id: `good ${request().job}` };
  await t.rejects(mongo.insert('events', [good, circular]), { code: 'TG_STORE_REJECTED', indexes: [1] });
  t.ok(mongo.isUp);
});

function large(name: string, bytes: number): { _id: string; text: string } {
  return { _id: `${name} ${request().job}`, text: 'x'.repeat(bytes) };
}

await t.test(
  'of many large documents the one beyond the limit is refused, and the others are written',
  async (t) => {
    const mongo = connection(mongoUrl);
    t.after(() => mongo.stop());
    await mongo.start();
    const documents = [
      large('a', 9_000_000),
      large('b', 17_000_000),
      large('c', 9_000_000),
      large('d', 16_700_000),
    ];
    await t.rejects(mongo.insert('events', documents), { code: 'TG_STORE_REJECTED', indexes: [1] });
    t.ok(mongo.isUp, 'the server is not blamed');
    const ids = documents.map(({ _id }) => _id);
    const written = await mongo.read((db) =>
      db
        .collection<{ _id: string }>('events')
        .find({ _id: { $in: ids } })
        .project<{ _id: string }>({ _id: 1 })
        .toArray(),
    );
    t.same(new Set(written.map(({ _id }) => _id)), new Set(ids.filter((id) => !id.startsWith('b '))));
  },
);

t.end();
