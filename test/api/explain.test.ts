import t from 'tap';
import { explain, type Filter } from '../../src/api/explain.ts';
import { filterLine, renderJobExplanation, verdictLine } from '../../src/api/explain-text.ts';
import { explainJob, type PlaceDeps, type PlacedRecord } from '../../src/api/job-place.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { GOOD_STANDING, PaperDirectory } from '../dispatcher/samples.ts';
import { type TestFleet, testFleet } from '../workers/fleet-fixture.ts';

/** Why a job waits: one node per filter, on a real Redis. */

const publicKey = Buffer.alloc(32);
const EU24 = { model: 'small', region: 'eu', vramGbMin: 20 } as const;
const POOL = 'small~r.eu~v.24';

/** A directory with a node for each filter that it fails first, and their workers. */
async function network(fleet: TestFleet): Promise<PaperDirectory> {
  const directory = new PaperDirectory();
  const good = {
    ...GOOD_STANDING,
    owner: 'o',
    publicKey,
    models: new Set(['small']),
    region: 'eu',
    vramGb: 24,
  } as const;
  const add = (id: Filter | 'free', change: object = {}) =>
    directory.paperNodes.push({ ...good, id, lifecycle: 'active', ...change });
  add('registered', { lifecycle: 'retired' });
  add('model', { models: new Set(['free']) });
  add('region', { region: 'us' });
  add('vram', { vramGb: 16 });
  for (const id of ['live', 'taking', 'offering', 'untried', 'slot'] as const) add(id);
  const pools = ['small', POOL];
  await fleet.say('taking', 'hello', { pools });
  await fleet.say('taking', 'drain', { pools });
  await fleet.say('offering', 'hello', { pools: ['small'] });
  await fleet.say('untried', 'hello', { pools });
  await fleet.say('slot', 'hello', { pools, slots_in_use: 1 });
  return directory;
}

await t.test('each node is told by the first filter that it does not pass, with counts', async (t) => {
  const fleet = await testFleet(t);
  const directory = await network(fleet);
  const deps = { directory, fleet: fleet.registry };
  const found = await explain({ ...EU24, tried: ['untried'] }, deps);
  t.same(Object.fromEntries(found.nodes.map(({ node, fault }) => [node, fault])), {
    slot: 'slot',
    untried: 'untried',
    offering: 'offering',
    taking: 'taking',
    live: 'live',
    vram: 'vram',
    region: 'region',
    model: 'model',
    registered: 'registered',
  });
  t.same(
    found.nodes.slice(0, 2).map(({ node }) => node),
    ['slot', 'untried'],
    'the nearest come first',
  );
  t.match(found, { pool: POOL, vramGb: 24, verdict: 'not_now', refusal: null, nodesUnread: 0 });
  t.equal(
    filterLine(found),
    '8 nodes registered, 7 of 8 serve small, 6 of 7 in region eu, 5 of 6 have 24 GB, 4 of 5 are live, ' +
      '3 of 4 take new jobs, 2 of 3 offer the model, 1 of 2 had no attempt of it yet, 0 of 1 have a free slot',
  );
  t.match(verdictLine(found), /^not now: 8 nodes registered/);
});

await t.test(
  'a worker with room makes it queued, and a filter that was not asked for is left out',
  async (t) => {
    const fleet = await testFleet(t);
    const directory = await network(fleet);
    const found = await explain(
      { ...EU24, region: null, vramGbMin: null },
      { directory, fleet: fleet.registry },
    );
    t.match(found, { verdict: 'queued', pool: 'small' });
    t.notMatch(filterLine(found), /region|GB/);
    t.match(verdictLine(found), /^queued: .* free slot$/);
  },
);

await t.test('what would be refused is never, by the code it would get', async (t) => {
  const fleet = await testFleet(t);
  const deps = { directory: await network(fleet), fleet: fleet.registry };
  const cases = [
    [{ ...EU24, model: 'huge' }, 'TG_MODEL_UNKNOWN'],
    [{ ...EU24, model: 'free' }, 'TG_MODEL_NO_PRICE'],
    [{ ...EU24, region: 'mars' }, 'TG_REGION_UNKNOWN'],
    [{ ...EU24, vramGbMin: 80 }, 'TG_NO_NODE_FITS'],
  ] as const;
  for (const [question, code] of cases) {
    const found = await explain(question, deps);
    t.match(found, { verdict: 'never', refusal: { code } });
    t.match(verdictLine(found), `never: ${code}: `);
    t.equal(found.filters.at(-1)?.left, 0, 'the counts end where nobody is left');
  }
});

await t.test('a job is found where it is', async (t) => {
  const fleet = await testFleet(t);
  const job = newUuidV7();
  const deps: PlaceDeps = {
    directory: await network(fleet),
    fleet: fleet.registry,
    records: { find: async () => null },
    triedNodes: async () => ['untried'],
    seen: () => null,
    queueDepth: async () => 7,
  };
  const unknown = await explainJob(job, null, deps);
  t.match(unknown, { place: { kind: 'unknown', queue: null }, explanation: null });
  t.match(renderJobExplanation(unknown), /not seen by this coordinator.*say --model/);
  const hinted = await explainJob(job, { question: EU24, priority: 'batch' }, deps);
  t.match(hinted, { place: { kind: 'unknown', queue: `jobs.${POOL}.batch`, depth: 7 } });
  const seen = { pool: POOL, priority: 'interactive', forMs: 50, isHere: false } as const;
  const queued = await explainJob(job, null, { ...deps, seen: () => seen });
  t.match(queued, { place: { kind: 'queued', queue: `jobs.${POOL}.interactive`, agoMs: 50, depth: 7 } });
  t.match(queued.explanation, { region: 'eu', vramGb: 24, verdict: 'queued' });
  const held = await explainJob(job, null, { ...deps, seen: () => ({ ...seen, isHere: true }) });
  t.match(held, { place: { kind: 'held', forMs: 50 } });
  const lines = renderJobExplanation(held).split('\n');
  t.match(lines[0], `Job ${job}: in the hands of a coordinator for 50 ms`);
  t.match(lines.slice(2), [/untried +has a free slot/, /slot +no free slot/]);
  t.ok(lines.length <= 20);
});

await t.test('a job between two attempts waits for a node that it has not tried', async (t) => {
  const fleet = await testFleet(t);
  const job = newUuidV7();
  const record: PlacedRecord = {
    jobId: job,
    state: 'locked',
    code: null,
    attempt: 2,
    node: null,
    model: 'small',
    poolSuffix: '~r.eu~v.24',
    priority: 'batch',
  };
  const deps: PlaceDeps = {
    directory: await network(fleet),
    fleet: fleet.registry,
    records: { find: async () => record },
    triedNodes: async () => ['untried'],
    seen: () => null,
    queueDepth: async () => null,
  };
  const found = await explainJob(job, null, deps);
  t.match(found, {
    place: { kind: 'between_attempts', attempt: 2, queue: `jobs.${POOL}.batch`, depth: null },
    explanation: { verdict: 'not_now', nodes: [{ fault: 'slot' }, { node: 'untried', fault: 'untried' }] },
  });
  t.match(
    renderJobExplanation(found),
    /waits for a node for attempt 2 .*\nnot now: .*\n.*\n.*had an attempt of this job/,
  );
  const running = { ...deps, records: { find: async () => ({ ...record, node: 'slot' }) } };
  t.match(await explainJob(job, null, running), { place: { kind: 'running' }, explanation: null });
});

await t.test('five thousand nodes are read in part, and the rest is said', async (t) => {
  const fleet = await testFleet(t);
  const directory = new PaperDirectory();
  const node = {
    ...GOOD_STANDING,
    owner: 'o',
    publicKey,
    models: new Set(['small']),
    lifecycle: 'active',
  } as const;
  for (let n = 0; n < 5_000; n++)
    directory.paperNodes.push({ ...node, id: `n${n}`, region: null, vramGb: null });
  const found = await explain(
    { model: 'small', region: null, vramGbMin: null },
    { directory, fleet: fleet.registry },
  );
  t.match(found, { verdict: 'not_now', nodesUnread: 3_000 });
  t.equal(found.nodes.length, 100);
});
