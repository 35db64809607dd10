import t from 'tap';
import { QUEUE } from '../../src/contracts/names.ts';
import type { UnsignedResult } from '../../src/workers/agent/result.ts';
import type { HandWorker } from '../support/hand-worker.ts';
import { proxiedWorld } from '../support/proxied-world.ts';
import { until } from '../support/until.ts';
import { type World, type WorldOptions, world } from '../support/world.ts';

// A loaded machine is slow; the runner's own limit is for a test that hangs.
t.setTimeout(120_000);

/** Jobs whose attempts fail: each is decided once, goes on under its one lock, and can be explained. */

/** A result that says that the attempt failed. */
function failure(code: string): Partial<UnsignedResult> {
  return {
    status: 'failed',
    output: null,
    usage: { input_tokens: 0, output_tokens: 0 },
    error: { code, message: 'as the test says' },
  };
}

/** A world with workers that are played by hand. */
async function handWorld(
  t: Parameters<typeof world>[0],
  nodes: readonly string[],
  options: WorldOptions = {},
): Promise<{ readonly tollgate: World; readonly workers: readonly HandWorker[] }> {
  const tollgate = await world(t, { workers: 0, ...options });
  const workers: HandWorker[] = [];
  for (const node of nodes) {
    await tollgate.addNode(node);
    workers.push(await tollgate.startHandWorker(node, options.slots ?? 4));
  }
  return { tollgate, workers };
}

/** Waits for attempt `n` of a job, wherever it goes. */
function attempt(workers: readonly HandWorker[], job: string, n: number) {
  return until(() => {
    for (const worker of workers) {
      const held = worker.held.find(({ message }) => message.job === job && message.attempt === n);
      if (held !== undefined) return { worker, held };
    }
    return undefined;
  }, `attempt ${n} of ${job}`);
}

function tries(tollgate: World, attemptsMax: number) {
  const job = tollgate.job();
  return { ...job, limits: { ...job.limits, attempts_max: attemptsMax } };
}

await t.test('an attempt that fails is followed by one on another node, under the same lock', async (t) => {
  const { tollgate, workers } = await handWorld(t, ['n1', 'n2']);
  const job = tries(tollgate, 3);
  await tollgate.send(job);
  const first = await attempt(workers, job.id, 1);
  await first.worker.finish(first.held, failure('model_error'));
  const second = await attempt(workers, job.id, 2);
  t.not(second.held.message.node, first.held.message.node, 'not the one that failed');
  t.match(await tollgate.books.job(job.id), { state: 'locked', attempt: 2 });
  await second.worker.finish(second.held);
  t.match(await tollgate.reply(job.id), { state: 'succeeded', charged_micro: 11 });
  t.same(await tollgate.books.transfersOf(job.id), ['lock', 'capture']);
  await tollgate.slotsAreFree();
  await until(async () => (await tollgate.books.traces('attempts', job.id)).length === 2, 'both traces');
  t.match(await tollgate.books.traces('attempts', job.id), [
    { attempt: 1, outcome: 'failed', decision: { class: 'node', action: 'retry', is_counted: true } },
    { attempt: 2, outcome: 'completed', decision: null },
  ]);
  t.match(await tollgate.books.traces('routes', job.id), [
    { reason: { class: 'node', code: 'TG_WORKER_ERROR', node: first.held.message.node } },
  ]);
  t.equal(await tollgate.metric('tollgate_retries_total', { class: 'node' }), 1);
});

await t.test('a job fails with its last try, and nothing is charged', async (t) => {
  const { tollgate, workers } = await handWorld(t, ['n1', 'n2'], { settings: { 'retries.delayMsMin': 10 } });
  const job = tries(tollgate, 3);
  await tollgate.send(job);
  for (const n of [1, 2, 3]) {
    const { worker, held } = await attempt(workers, job.id, n);
    await worker.finish(held, failure('stream_broken'));
  }
  t.match(await tollgate.reply(job.id), {
    state: 'failed',
    charged_micro: 0,
    error: { code: 'TG_WORKER_ERROR', retryable: true },
  });
  t.same(await tollgate.books.transfersOf(job.id), ['lock', 'void']);
  await tollgate.slotsAreFree();
  await until(async () => (await tollgate.books.traces('attempts', job.id)).length === 3, 'all traces');
});

await t.test('a request that no model takes fails at once', async (t) => {
  const { tollgate, workers } = await handWorld(t, ['n1', 'n2']);
  const job = tries(tollgate, 3);
  await tollgate.send(job);
  const { worker, held } = await attempt(workers, job.id, 1);
  await worker.finish(held, failure('invalid_request'));
  t.match(await tollgate.reply(job.id), {
    state: 'failed',
    error: { code: 'TG_INPUT_REFUSED', retryable: false },
  });
});

await t.test('a worker that stops uses up no try', async (t) => {
  const { tollgate, workers } = await handWorld(t, ['n1', 'n2']);
  const job = tries(tollgate, 1);
  await tollgate.send(job);
  const first = await attempt(workers, job.id, 1);
  await first.worker.finish(first.held, failure('worker_stopped'));
  const second = await attempt(workers, job.id, 2);
  await second.worker.finish(second.held);
  t.equal((await tollgate.reply(job.id)).state, 'succeeded');
});

await t.test('a lost worker costs its jobs one attempt', async (t) => {
  const { tollgate, workers } = await handWorld(t, ['n1', 'n2']);
  const job = tries(tollgate, 2);
  await tollgate.send(job);
  const first = await attempt(workers, job.id, 1);
  first.worker.fallSilent();
  const second = await attempt(workers, job.id, 2);
  t.not(second.held.message.node, first.held.message.node);
  await second.worker.finish(second.held);
  t.equal((await tollgate.reply(job.id)).state, 'succeeded');
  const before = await tollgate.books.credits();
  await first.worker.publish(first.worker.result(first.held.message));
  await until(
    async () => (await tollgate.books.events({ code: 'TG_RESULT_LATE' })).length === 1,
    'the event',
  );
  t.equal(await tollgate.books.credits(), before, 'what the lost worker still says changes nothing');
  await until(async () => (await tollgate.books.traces('attempts', job.id)).length === 2, 'both traces');
  t.match(await tollgate.books.traces('attempts', job.id), [
    { attempt: 1, outcome: 'lost', code: 'TG_WORKER_LOST', decision: { class: 'node', action: 'retry' } },
    { attempt: 2, outcome: 'completed' },
  ]);
});

await t.test('what a node did wrong is held against it, once, and not what nobody could help', async (t) => {
  const { tollgate, workers } = await handWorld(t, ['n1', 'n2', 'n3']);
  const [broken, lost, stopping] = workers;
  if (!broken || !lost || !stopping) throw new Error('three workers were asked for');
  const codes = new Map([
    [broken, 'model_error'],
    [stopping, 'worker_stopped'],
  ]);
  const jobs = Array.from({ length: 12 }, () => tries(tollgate, 5));
  for (const job of jobs) await tollgate.send(job);
  for (const job of jobs) await attempt(workers, job.id, 1);
  for (const [worker, code] of codes)
    for (const held of worker.held.slice()) await worker.finish(held, failure(code));
  lost.fallSilent();
  const strikes = async () =>
    tollgate.books.sql<{ node: string; kind: string; strikes: number }>(
      `select node_id as node, kind::text, count(*)::integer as strikes from network.strikes
        where voided_at is null group by 1, 2 order by 1, 2`,
    );
  await until(
    async () => (await strikes()).some(({ kind }) => kind === 'lost'),
    'the strike of the lost worker',
  );
  const found = await strikes();
  t.match(
    found.find(({ node, kind }) => node === 'n2' && kind === 'lost'),
    { strikes: 1 },
    'one for the worker, not one for each of its jobs',
  );
  t.ok(found.some(({ node, kind }) => node === 'n1' && kind === 'error'));
  t.notOk(
    found.some(({ node }) => node === 'n3'),
    'to stop is no fault',
  );
});

await t.test('the same failed result again changes nothing', async (t) => {
  const { tollgate, workers } = await handWorld(t, ['n1', 'n2']);
  const job = tries(tollgate, 3);
  await tollgate.send(job);
  const { worker, held } = await attempt(workers, job.id, 1);
  const result = worker.result(held.message, failure('model_error'));
  for (let i = 0; i < 3; i++) await worker.publish(result);
  worker.drop(held);
  const second = await attempt(workers, job.id, 2);
  await worker.publish(result);
  await second.worker.finish(second.held);
  t.equal((await tollgate.reply(job.id)).state, 'succeeded');
  t.same(await tollgate.books.events({ code: 'TG_RESULT_LATE' }), [], 'a repeat is no anomaly');
  t.equal((await tollgate.books.job(job.id))?.attempt, 2);
});

await t.test('delayed retries outlive an emptied Redis', async (t) => {
  const { tollgate, workers } = await handWorld(t, ['n1', 'n2'], {
    slots: 128,
    settings: { 'retries.delayMsMin': 4_000, 'fleet.lostAfterMs': 3_000 },
  });
  const jobs = Array.from({ length: 100 }, () => tries(tollgate, 3));
  for (const job of jobs) await tollgate.send(job);
  for (const n of [1, 2]) {
    for (const job of jobs) {
      const { worker, held } = await attempt(workers, job.id, n);
      await worker.finish(held, failure('model_error'));
    }
  }
  const waiting =
    "select count(*)::integer as jobs from jobs.jobs where state = 'locked' and attempt = 3 and node is null";
  await until(async () => {
    const [row] = await tollgate.books.sql<{ jobs: number }>(waiting);
    return (row?.jobs ?? 0) >= 90;
  }, 'the alarms to be set');
  await tollgate.emptyRedis();
  for (const job of jobs) {
    const { worker, held } = await attempt(workers, job.id, 3);
    await worker.finish(held);
    t.equal((await tollgate.reply(job.id)).state, 'succeeded');
  }
  await tollgate.slotsAreFree();
});

/** Settings under which an attempt that nobody begins is noticed in about two seconds. */
const IMPATIENT = {
  'ledger.startWindowMs': 1_000,
  'ledger.statementMsMax': 400,
  'ledger.lockWaitMsMax': 300,
  'broker.confirmMsMax': 500,
};

await t.test('an attempt that its worker does not begin goes to another', async (t) => {
  const { tollgate } = await handWorld(t, [], { settings: IMPATIENT });
  await tollgate.addNode('n1');
  const idle = await tollgate.startHandWorker('n1', 4, ['small'], { isReading: false });
  const job = tries(tollgate, 2);
  await tollgate.send(job);
  await until(async () => (await tollgate.books.job(job.id))?.state === 'locked', 'the lock');
  await tollgate.addNode('n2');
  const busy = await tollgate.startHandWorker('n2', 4);
  const { held } = await attempt([busy], job.id, 2);
  await busy.finish(held);
  t.equal((await tollgate.reply(job.id)).state, 'succeeded');
  await until(async () => (await tollgate.books.traces('attempts', job.id)).length === 2, 'both traces');
  t.match(await tollgate.books.traces('attempts', job.id), [{ code: 'TG_START_OVERDUE' }, {}]);
  t.same(idle.held, []);
});

await t.test('an attempt that gives no token in time goes to another, and its worker is told', async (t) => {
  const { tollgate, workers } = await handWorld(t, ['n1', 'n2'], {
    settings: { ...IMPATIENT, 'retries.firstTokenMs': 100 },
  });
  const job = tries(tollgate, 2);
  await tollgate.send(job);
  const first = await attempt(workers, job.id, 1);
  const second = await attempt(workers, job.id, 2);
  await second.worker.finish(second.held);
  t.equal((await tollgate.reply(job.id)).state, 'succeeded');
  t.match(await tollgate.books.traces('attempts', job.id), [{ code: 'TG_FIRST_TOKEN_OVERDUE' }, {}]);
  t.equal((await tollgate.queue(`node.${first.held.message.node}.control`)).messages, 1);
});

await t.test('a job whose model has no node left runs on the fallback it allows, at its price', async (t) => {
  const { tollgate } = await handWorld(t, []);
  await tollgate.addModel('large', { inputPriceMicro: 3_000_000n, outputPriceMicro: 6_000_000n });
  await tollgate.addNode('n1', ['large']);
  await tollgate.addNode('n2', ['small']);
  const large = await tollgate.startHandWorker('n1', 4, ['large']);
  const small = await tollgate.startHandWorker('n2', 4, ['small']);
  const job = { ...tries(tollgate, 2), model: 'large', fallbacks: ['small'] };
  await tollgate.send(job);
  await large.finish(await large.dispatched(job.id), failure('model_error'));
  const held = await small.dispatched(job.id);
  t.match(held.message, { model: 'small', attempt: 2 });
  await small.finish(held);
  t.match(await tollgate.reply(job.id), { state: 'succeeded', charged_micro: 11 }, 'at the price of small');
  t.match(await tollgate.books.job(job.id), { locked_micro: '348', charged_micro: '11' });
  await until(async () => (await tollgate.books.traces('routes', job.id)).length === 1, 'the route');
  t.match(await tollgate.books.traces('routes', job.id), [{ gen_ai: { request: { model: 'small' } } }]);
});

await t.test('without a fallback the node that failed is asked again', async (t) => {
  const { tollgate, workers } = await handWorld(t, ['n1']);
  const job = tries(tollgate, 2);
  await tollgate.send(job);
  const first = await attempt(workers, job.id, 1);
  await first.worker.finish(first.held, failure('model_error'));
  const second = await attempt(workers, job.id, 2);
  await second.worker.finish(second.held);
  t.equal((await tollgate.reply(job.id)).state, 'succeeded');
});

await t.test('an attempt whose input is not in MongoDB yet waits, and uses no try', async (t) => {
  const { tollgate, links } = await proxiedWorld(t, { workers: 0 });
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 4);
  links.mongo.cut();
  await until(
    async () => (await tollgate.metric('tollgate_dependency_up', { name: 'mongodb' })) === 0,
    'the outage to be noticed',
  );
  const job = tries(tollgate, 2);
  await tollgate.send(job);
  await worker.finish(await worker.dispatched(job.id), failure('model_error'));
  await until(async () => (await tollgate.books.job(job.id))?.attempt === 2, 'the fence to move');
  links.mongo.heal();
  const { held } = await attempt([worker], job.id, 2);
  await worker.finish(held);
  t.equal((await tollgate.reply(job.id)).state, 'succeeded');
  t.match(await tollgate.books.job(job.id), { attempt: 2 });
  await until(
    async () => (await tollgate.books.traces('attempts', job.id)).length === 2,
    'the spool to drain',
  );
  t.equal((await tollgate.queue(QUEUE.dead)).messages, 0, 'its message was never taken for broken');
});
