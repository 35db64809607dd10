import { MongoClient } from 'mongodb';
import t from 'tap';
import { newUuidV7 } from '../../src/ids.ts';
import { ensureCollections, ensureCollectionsWhenUp, TRACES_VIEW } from '../../src/traces/collections.ts';
import { ENCODERS, jobKeyOf } from '../../src/traces/documents.ts';
import { MongoTraceStore, namesOf, stagesByTime } from '../../src/traces/store.ts';
import type { AttemptDocument, EventDocument, RequestDocument } from '../../src/traces/types.ts';
import { isolatedServers } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { attempt, connectMongo, event, recordingLog, request, serversConfig } from './fixtures.ts';
import { flakyLink } from './flaky-link.ts';

const { mongoUrl } = await isolatedServers(t, { mongo: true });
const mongo = await connectMongo(t, mongoUrl);
const store = new MongoTraceStore(mongo);
const client = new MongoClient(mongoUrl);
t.after(() => client.close());

interface Documents {
  readonly requests?: readonly RequestDocument[];
  readonly attempts?: readonly AttemptDocument[];
  readonly events?: readonly EventDocument[];
}

async function write({ requests = [], attempts = [], events = [] }: Documents): Promise<void> {
  if (requests.length > 0) await mongo.insert('requests', requests.map(ENCODERS.requests));
  if (attempts.length > 0) await mongo.insert('attempts', attempts.map(ENCODERS.attempts));
  if (events.length > 0) await mongo.insert('events', events.map(ENCODERS.events));
}

await t.test(
  'a trace comes back as it was written: 200 tokens, text beyond the basic plane, amounts beyond 2^53',
  async (t) => {
    const one = request();
    const ended = attempt(one);
    const late = event(one);
    await write({ requests: [one], attempts: [ended], events: [late] });
    const trace = await store.findJob(one.job);
    t.same(trace, { job: one.job, request: one, routes: [], attempts: [ended], events: [late] });
    t.equal(trace?.attempts[0]?.lockedMicro, 9_007_199_254_740_993n);
    t.ok(trace?.request.body.equals(one.body));
  },
);

await t.test('documents with nothing in their optional fields come back too', async (t) => {
  const refused = request({ routing: null, modelVersion: null, traceparent: null, kind: 'embedding' });
  const lost = attempt(refused, { outcome: 'lost', code: 'TG_WORKER_LOST', chargedMicro: 0n, result: null });
  const failed = attempt(refused, { attempt: 2, outcome: 'failed', code: 'TG_WORKER_ERROR' }, 0);
  const { result } = failed;
  if (result === null) throw new Error('the fixture has a result');
  const error = { code: 'model_down', message: 'connection refused' };
  const bare = { text: null, finishReason: null, firstTokenMs: null, gpu: null, evaluation: null, error };
  const second = { ...failed, result: { ...result, ...bare } };
  await write({ requests: [refused], attempts: [second, lost] });
  const trace = await store.findJob(refused.job);
  t.same(trace?.request, refused);
  t.same(trace?.attempts, [lost, second], 'attempts in their order');
});

await t.test('the stored names are those of OpenTelemetry where it has one', async (t) => {
  const one = request();
  await write({ requests: [one], attempts: [attempt(one)] });
  const stored = await client.db().collection('attempts').findOne({ namespace: one.namespace, attempt: 1 });
  t.match(stored?.['result'].gen_ai, {
    response: { finish_reasons: ['stop'], time_to_first_chunk: 0.029 },
    usage: { input_tokens: 12, output_tokens: 200 },
  });
  const asked = await client
    .db()
    .collection('requests')
    .findOne({ at: new Date(one.receivedAtMs) });
  t.match(asked?.['gen_ai'], { operation: { name: 'chat' }, request: { model: one.model } });
});

await t.test('the same documents again are success, and the first ones stay', async (t) => {
  const one = request();
  const fresh = request();
  await write({ requests: [one], attempts: [attempt(one)], events: [event(one)] });
  await write({
    requests: [{ ...one, priority: 'batch' }, fresh],
    attempts: [attempt(one)],
    events: [event(one)],
  });
  const trace = await store.findJob(one.job);
  t.same(trace, { job: one.job, request: one, routes: [], attempts: [attempt(one)], events: [event(one)] });
  t.ok(await store.findJob(fresh.job), 'a document beside the duplicate is written');
});

await t.test("the view joins a job's documents of its own namespace only", async (t) => {
  const one = request();
  const foreign = attempt({ ...one, namespace: 'other/prod' }, { attempt: 9 });
  const nameless = event(one, { key: `early:${one.job}`, namespace: null, code: 'TG_ACCOUNT_NOT_ENTITLED' });
  await write({ requests: [one], attempts: [foreign, attempt(one)], events: [nameless, event(one)] });
  const trace = await store.findJob(one.job);
  t.same(
    trace?.attempts.map((each) => each.attempt),
    [1],
  );
  t.same(
    trace?.events.map((each) => each.key),
    [event(one).key],
  );
  const [joined] = await client.db().collection(TRACES_VIEW).find({ account: 'acme' }).limit(1).toArray();
  t.ok(joined?.['attempts'] && joined['events'], 'the view reads as one document');
});

await t.test('findJob answers only for the namespace that is asked', async (t) => {
  const one = request();
  await write({ requests: [one] });
  t.ok(await store.findJob(one.job, 'acme/prod'));
  t.equal(await store.findJob(one.job, 'acme/test'), null);
  t.equal(await store.findJob(newUuidV7()), null);
  t.equal(await store.findJob('not-an-id'), null);
});

await t.test('findByTime gives the newest of a range first, by account or by namespace', async (t) => {
  const timely = { account: 'timely', namespace: 'timely/a' };
  const a = request({ ...timely, receivedAtMs: 1_000 });
  const b = request({ ...timely, receivedAtMs: 2_000, namespace: 'timely/b' });
  const c = request({ ...timely, receivedAtMs: 3_000 });
  await write({ requests: [a, b, c], attempts: [attempt(b)] });
  const range = { fromMs: 1_000, toMs: 3_000, limit: 10 };
  const byAccount = await store.findByTime({ account: 'timely', ...range });
  t.same(
    byAccount.map((trace) => trace.job),
    [b.job, a.job],
    'the end of the range is outside',
  );
  t.same(byAccount[0]?.attempts, [attempt(b)]);
  const byNamespace = await store.findByTime({ namespace: 'timely/a', fromMs: 0, toMs: 9_000, limit: 1 });
  t.same(
    byNamespace.map((trace) => trace.job),
    [c.job],
  );
  await t.rejects(store.findByTime(range), { code: 'TG_CLI_USAGE' });
});

await t.test('each look-up reads an index and joins only what it returns', async (t) => {
  const many = Array.from({ length: 60 }, (_, i) =>
    request({ account: 'plan', namespace: i % 2 === 0 ? 'plan/a' : 'plan/b', receivedAtMs: i }),
  );
  await write({ requests: many, attempts: many.map((each) => attempt(each, {}, 1)) });
  const range = { fromMs: 0, toMs: 50, limit: 7 };
  const one = [{ $match: { _id: jobKeyOf(many[3]?.job ?? '') } }];
  const cases = [
    ['namespace_at', stagesByTime(['plan/a'], range), 7],
    ['namespace_at', stagesByTime(['plan/a', 'plan/b'], range), 7],
    ['_id_', one, 1],
  ] as const;
  for (const [index, stages, joined] of cases) {
    const plan = await client.db().collection(TRACES_VIEW).aggregate(stages).explain('executionStats');
    const cursor = plan['stages'][0].$cursor.executionStats;
    t.equal(cursor.totalDocsExamined, joined, `${index}: requests read`);
    t.match(JSON.stringify(cursor.executionStages), index === '_id_' ? /_id_|IDHACK/ : new RegExp(index));
    const lookups = plan['stages'].filter((stage: object) => '$lookup' in stage);
    t.equal(lookups.length, 3);
    for (const lookup of lookups) {
      t.same(lookup.indexesUsed, ['namespace_job']);
      t.equal(Number(lookup.nReturned), joined, `${index}: requests joined`);
    }
    t.equal(Number(lookups[1].totalDocsExamined), joined, `${index}: attempts read`);
  }
});

await t.test('the namespaces of an account are found by an index, and only its own', async (t) => {
  const names = ['near/a', 'near/b', 'near/b', 'near-er/a', 'nea/r', 'near0/a'];
  await write({
    requests: names.map((namespace) => request({ namespace })),
  });
  const requests = client.db().collection('requests');
  t.same(await requests.distinct('namespace', { namespace: namesOf('near') }), ['near/a', 'near/b']);
  const command = { distinct: 'requests', key: 'namespace', query: { namespace: namesOf('near') } };
  const plan = await client.db().command({ explain: command });
  t.match(JSON.stringify(plan), /DISTINCT_SCAN/);
  const range = { fromMs: 0, toMs: 9e15, limit: 10 };
  t.equal((await store.findByTime({ account: 'near', ...range })).length, 3);
  t.equal((await store.findByTime({ account: 'near', namespace: 'near/b', ...range })).length, 2);
  t.same(await store.findByTime({ account: 'near', namespace: 'nea/r', ...range }), []);
  t.same(await store.findByTime({ account: 'nobody', ...range }), []);
});

await t.test('findEvents finds what never became a request, also under a broken id', async (t) => {
  const one = request();
  const early = event(one, { key: 'early', namespace: null, code: 'TG_SENDER_UNKNOWN' });
  const broken = event(one, { key: 'broken', job: '../../etc', namespace: null, code: 'TG_JOB_ID_INVALID' });
  await write({ events: [early, broken] });
  t.same(await store.findEvents(one.job), [early]);
  t.same(await store.findEvents('../../etc'), [broken]);
  const plan = await client.db().collection('events').find({ job: 'x' }).explain('queryPlanner');
  t.match(JSON.stringify(plan), /IXSCAN/);
});

await t.test('the audit is told which requests and attempts are missing', async (t) => {
  const [there, gone] = [request(), request()];
  await write({ requests: [there], attempts: [attempt(there)] });
  t.same(await store.findMissingRequests([there.job, gone.job]), [gone.job]);
  const asked = [
    { job: there.job, attempt: 1 },
    { job: there.job, attempt: 2 },
  ];
  t.same(await store.findMissingAttempts(asked), [asked[1]]);
  t.same(await store.findMissingRequests([]), []);
});

await t.test('the audit is told which jobs had a message that was dead-lettered unread', async (t) => {
  const [poisoned, refused] = [request(), request()];
  await write({
    events: [
      event(poisoned, { key: 'poison', namespace: null, code: 'TG_MESSAGE_POISON' }),
      event(refused, { key: 'other', namespace: null, code: 'TG_SENDER_UNKNOWN' }),
    ],
  });
  t.same(await store.findPoisoned([refused.job, poisoned.job]), [poisoned.job]);
});

await t.test('the collections can be made again, and by two processes at once', async (t) => {
  const url = new URL(mongoUrl);
  url.pathname += '_twice';
  const servers = serversConfig(url.href);
  t.after(() => client.db(url.pathname.slice(1)).dropDatabase());
  await Promise.all([ensureCollections(servers), ensureCollections(servers)]);
  const db = client.db(url.pathname.slice(1));
  await db.collection('requests').createIndex({ account: 1, at: -1 }, { name: 'account_at' });
  await Promise.all([ensureCollections(servers), ensureCollections(servers)]);
  const indexes = await db.collection('requests').indexes();
  t.same(
    indexes.map(({ name }) => name),
    ['_id_', 'namespace_at'],
    'an index of earlier versions is gone',
  );
  const infos = await db.listCollections().toArray();
  t.ok(infos.some((info) => info.name === TRACES_VIEW && info.type === 'view'));
});

await t.test(
  'a daemon that starts while MongoDB is away makes the collections once it is there',
  async (t) => {
    const { mongoUrl: freshUrl } = await isolatedServers(t, { mongo: true });
    const link = await flakyLink(t, freshUrl, 'cut');
    const { log, lines } = recordingLog();
    const late = await connectMongo(t, link.url, { log, isEnsured: false });
    ensureCollectionsWhenUp(late, serversConfig(link.url), log);
    t.notOk(late.isUp);
    link.set('open');
    const other = new MongoClient(freshUrl);
    t.after(() => other.close());
    await until(async () => {
      const infos = await other.db().listCollections({ name: TRACES_VIEW }).toArray();
      return infos.length === 1;
    }, 'the view to be made');
    t.notMatch(lines.join(), /could not be made/);
  },
);

t.end();
