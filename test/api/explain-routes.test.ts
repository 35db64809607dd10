import t from 'tap';
import { newUuidV7 } from '../../src/ids.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';

/** The two questions as a running coordinator answers them. */

async function ask(tollgate: World, path: string): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${tollgate.daemon?.httpUrl}${path}`);
  return { status: response.status, body: await response.json() };
}

await t.test('a coordinator says why a job waits, before it is sent and after', async (t) => {
  const tollgate = await world(t, { workers: 0 });
  await tollgate.addNode('big', ['small'], 'active', { region: 'eu', vramGb: 80 });
  await tollgate.addNode('n1');
  const outlook = () => ask(tollgate, '/v1/explain?model=small&region=eu&vram_gb_min=48');
  await until(
    async () => JSON.stringify(await outlook()).includes('not now: 2 nodes registered'),
    'the coordinator to know both nodes',
  );
  t.match(await outlook(), {
    body: {
      verdict: 'not_now',
      pool: 'small~r.eu~v.48',
      nodes: [{ node: 'big', fault: 'live' }, { fault: 'region' }],
      text: /^not now: 2 nodes registered, 2 of 2 serve small, 1 of 2 in region eu, 1 of 1 has 48 GB, 0 of 1 are live$/,
    },
  });
  t.match(await ask(tollgate, '/v1/explain?model=small&region=mars'), {
    body: { verdict: 'never', refusal: { code: 'TG_REGION_UNKNOWN', field: 'constraints.region' } },
  });

  const job = tollgate.job({ constraints: { subcloud: null, region: 'eu', vram_gb_min: 48 } });
  const where = () => ask(tollgate, `/v1/jobs/${job.id}/explain`);
  t.match(await where(), { body: { place: { kind: 'unknown' }, explanation: null } });
  await tollgate.send(job);
  await until(async () => JSON.stringify(await where()).includes('"depth":1'), 'it to be in its queue');
  t.match(await where(), {
    body: {
      place: { kind: 'queued', queue: 'jobs.small~r.eu~v.48.interactive', depth: 1 },
      explanation: { verdict: 'not_now', vram_gb: 48 },
      text: String,
    },
  });

  const worker = await tollgate.startHandWorker('big', 1);
  const held = await worker.dispatched(job.id);
  t.match(await where(), {
    body: { place: { kind: 'running', node: 'big', attempt: 1 }, explanation: null },
  });
  const next = tollgate.job();
  await tollgate.send(next);
  await until(
    async () => JSON.stringify(await ask(tollgate, `/v1/jobs/${next.id}/explain`)).includes('free slot'),
    'the next one to wait for its slot',
  );
  await worker.finish(held);
  await worker.finish(await worker.dispatched(next.id));
  t.equal((await tollgate.reply(job.id)).state, 'succeeded');
  t.match(await where(), { body: { place: { kind: 'ended', state: 'succeeded', code: null } } });
});

await t.test('a question that is none is refused with its field', async (t) => {
  const tollgate = await world(t, { workers: 0 });
  const wrong: [path: string, field: string][] = [
    ['/v1/explain', 'model'],
    ['/v1/explain?model=small&region=A', 'region'],
    ['/v1/explain?model=small&vram_gb_min=1e1', 'vram_gb_min'],
    ['/v1/explain?model=small&colour=red', 'colour'],
    ['/v1/jobs/1/explain', 'id'],
    [`/v1/jobs/${newUuidV7()}/explain?model=`, 'model'],
  ];
  for (const [path, field] of wrong)
    t.match(await ask(tollgate, path), { status: 400, body: { field } }, path);
  for (const path of ['/v1/jobs//explain', '/v1/jobs/a/b/explain', '/v1/jobs/explain', '/v1/jobs'])
    t.match(await ask(tollgate, path), { status: 404 }, path);
});
