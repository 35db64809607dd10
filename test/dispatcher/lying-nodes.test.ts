import t, { type Test } from 'tap';
import { nodeUser } from '../../src/contracts/names.ts';
import type { Code } from '../../src/errors.ts';
import { newUuidV7 } from '../../src/ids.ts';
import type { UnsignedResult } from '../../src/workers/agent/result.ts';
import type { HandWorker } from '../support/hand-worker.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';

t.setTimeout(120_000);

/** Nodes that lie, on real servers: about what is over, about what they used, about who and what they are. */

/** Counts of everything that says that a code was seen. */
async function noted(tollgate: World, metric: string, code: Code) {
  const counted = await tollgate.metric(metric, { code });
  return { counted, events: (await tollgate.books.events({ code })).length };
}

/** Lets `act` happen and waits until it was counted and left an event, with no credit moved. */
async function proveNoted(
  t: Test,
  tollgate: World,
  code: Code,
  act: () => Promise<unknown>,
  metric = 'tollgate_results_refused_total',
): Promise<void> {
  const before = await noted(tollgate, metric, code);
  const creditsBefore = await tollgate.books.credits();
  await act();
  await until(async () => {
    const { counted, events } = await noted(tollgate, metric, code);
    return counted > before.counted && events > before.events;
  }, `${code} to be counted and traced`);
  t.equal(await tollgate.books.credits(), creditsBefore, 'no credit moved');
}

const FAILURE: Partial<UnsignedResult> = {
  status: 'failed',
  output: null,
  usage: { input_tokens: 0, output_tokens: 0 },
  error: { code: 'model_error', message: 'as the test says' },
};

async function twoNodes(t: Test): Promise<{ tollgate: World; workers: readonly HandWorker[] }> {
  const tollgate = await world(t, { workers: 0, settings: { 'retries.delayMsMin': 10 } });
  const workers: HandWorker[] = [];
  for (const node of ['n1', 'n2']) {
    await tollgate.addNode(node);
    workers.push(await tollgate.startHandWorker(node, 8));
  }
  return { tollgate, workers };
}

/** Who got attempt `n` of a job, and what. */
function attempt(workers: readonly HandWorker[], job: string, n: number) {
  return until(() => {
    for (const worker of workers)
      for (const held of worker.held)
        if (held.message.job === job && held.message.attempt === n) return { worker, held };
    return undefined;
  }, `attempt ${n} of ${job}`);
}

await t.test('what comes after the end changes nothing', async (t) => {
  const { tollgate, workers } = await twoNodes(t);
  const retryable = () => ({ ...tollgate.job(), limits: { ...tollgate.job().limits, attempts_max: 3 } });

  await t.test('a good result of an attempt that was given up', async (t) => {
    const job = retryable();
    await tollgate.send(job);
    const first = await attempt(workers, job.id, 1);
    const better = first.worker.result(first.held.message);
    await first.worker.finish(first.held, FAILURE);
    const second = await attempt(workers, job.id, 2);
    await proveNoted(t, tollgate, 'TG_RESULT_LATE', () => first.worker.publish(better));
    t.match(await tollgate.books.job(job.id), { state: 'locked', attempt: 2 }, 'the second goes on');
    await second.worker.finish(second.held);
    t.match(await tollgate.reply(job.id), { state: 'succeeded', charged_micro: 11 });

    const yetBetter = first.worker.result(first.held.message, {
      output: { text: 'and more of it', finish_reason: 'stop' },
    });
    await proveNoted(t, tollgate, 'TG_RESULT_LATE', () => first.worker.publish(yetBetter));
    t.same(await tollgate.books.transfersOf(job.id), ['lock', 'capture'], 'one charge');
    t.equal(tollgate.client.repliesTo(job.id).length, 1, 'one reply');
  });

  await t.test(
    'the first attempt again under the number of the second, by the node that lost it',
    async (t) => {
      const job = retryable();
      await tollgate.send(job);
      const first = await attempt(workers, job.id, 1);
      await first.worker.finish(first.held, FAILURE);
      const second = await attempt(workers, job.id, 2);
      const stolen = first.worker.result({ ...first.held.message, attempt: 2 });
      await proveNoted(t, tollgate, 'TG_RESULT_STALE', () => first.worker.publish(stolen));
      await second.worker.finish(second.held);
      t.match(await tollgate.reply(job.id), { state: 'succeeded' });
    },
  );

  await t.test('an answer after the void of a failed job', async (t) => {
    const job = tollgate.job();
    await tollgate.send(job);
    const { worker, held } = await attempt(workers, job.id, 1);
    const good = worker.result(held.message);
    await worker.finish(held, FAILURE);
    t.match(await tollgate.reply(job.id), { state: 'failed', charged_micro: 0 });
    // The digest of the failure stands behind the void: this one is another result of the same attempt.
    await proveNoted(t, tollgate, 'TG_RESULT_CONFLICT', () => worker.publish(good));
    t.same(await tollgate.books.transfersOf(job.id), ['lock', 'void']);
  });

  await t.test('an answer after its client cancelled the job', async (t) => {
    const job = tollgate.job();
    await tollgate.send(job);
    const { worker, held } = await attempt(workers, job.id, 1);
    const { id, account, namespace } = job;
    await tollgate.client.send(Buffer.from(JSON.stringify({ v: 1, id, account, namespace })), {
      routingKey: 'cancel',
      expirationMs: undefined,
    });
    t.match(await tollgate.reply(id), { state: 'cancelled', charged_micro: 0 });
    await proveNoted(t, tollgate, 'TG_RESULT_LATE', () => worker.finish(held));
    t.same(await tollgate.books.transfersOf(id), ['lock', 'void']);
  });
  await tollgate.slotsAreFree();
});

await t.test('what a node says it used', async (t) => {
  const { tollgate, workers } = await twoNodes(t);
  const settled = async (change: Partial<UnsignedResult>) => {
    const job = tollgate.job();
    await tollgate.send(job);
    const { worker, held } = await attempt(workers, job.id, 1);
    await worker.finish(held, change);
    return { job, reply: await tollgate.reply(job.id) };
  };
  const eventsOf = async (job: string) => {
    await until(async () => (await tollgate.books.traces('attempts', job)).length > 0, 'the trace');
    return (await tollgate.books.traces('events', job)).map((event) => String(event['code']));
  };

  for (const [input_tokens, output_tokens, charged] of [
    [100_000_000, 100_000_000, 116],
    [100_000_000, 0, 100],
    [0, 100_000_000, 16],
  ] as const)
    await t.test(`${input_tokens} in and ${output_tokens} out cost what the limits allow`, async (t) => {
      const { job, reply } = await settled({ usage: { input_tokens, output_tokens } });
      t.match(reply, { state: 'succeeded', charged_micro: charged });
      t.match(await tollgate.books.job(job.id), { locked_micro: '116', charged_micro: String(charged) });
      t.ok((await eventsOf(job.id)).includes('TG_RESULT_USAGE'));
    });

  await t.test('more tokens out than the answer has bytes is noted', async (t) => {
    const job = { ...tollgate.job(), limits: { ...tollgate.job().limits, output_tokens_max: 1_000 } };
    const code = 'TG_RESULT_TOKENS';
    const counted = await tollgate.metric('tollgate_results_refused_total', { code });
    await tollgate.send(job);
    const { worker, held } = await attempt(workers, job.id, 1);
    await worker.finish(held, {
      output: { text: 'no', finish_reason: 'stop' },
      usage: { input_tokens: 5, output_tokens: 900 },
    });
    t.equal((await tollgate.reply(job.id)).state, 'succeeded');
    t.same(await eventsOf(job.id), [code]);
    t.equal(await tollgate.metric('tollgate_results_refused_total', { code }), counted + 1);
  });

  await t.test('another version of the model is noted', async (t) => {
    const { job } = await settled({ model_version: 7 });
    t.same(await eventsOf(job.id), ['TG_RESULT_MODEL']);
    t.equal(await tollgate.metric('tollgate_results_refused_total', { code: 'TG_RESULT_MODEL' }), 1);
  });
});

await t.test('who and what a node says it is', async (t) => {
  const tollgate = await world(t, { workers: 0 });
  await tollgate.addModel('other');
  await tollgate.addNode('n1');
  await tollgate.addNode('n2', ['other']);
  const counter = 'tollgate_fleet_refused_total';

  await t.test('a model that it was not registered for brings it no job of that model', async (t) => {
    await proveNoted(
      t,
      tollgate,
      'TG_FLEET_MODEL',
      () => tollgate.startHandWorker('n2', 4, ['small', 'other']),
      counter,
    );
    t.match(await tollgate.fleet.list(), [{ node: 'n2', pools: ['other'] }]);
  });

  const worker = await tollgate.startHandWorker('n1', 2);
  const word = (change: object) =>
    Buffer.from(
      JSON.stringify({
        v: 1,
        kind: 'heartbeat',
        node: 'n1',
        session: worker.session,
        seq: 1_000_000,
        slots_total: 2,
        slots_in_use: 0,
        pools: ['small'],
        warm_models: [],
        config_version: 0,
        gpu: null,
        leases: [],
        signature: null,
        ...change,
      }),
    );

  for (const [name, code, change] of [
    ['a word for another node', 'TG_FLEET_SENDER', { node: 'n2' }],
    ['a hello for another node', 'TG_FLEET_SENDER', { kind: 'hello', node: 'n3' }],
    ['a hello that the key did not sign', 'TG_FLEET_SIGNATURE', { kind: 'hello', signature: 'AAAA' }],
    ['more slots than any worker has', 'TG_FLEET_INVALID', { slots_total: 5_000 }],
    ['a session that is older than the one that lives', 'TG_FLEET_STALE_SESSION', { session: 1 }],
  ] as const)
    await t.test(name, (t) => proveNoted(t, tollgate, code, () => worker.sayAsFleet(word(change)), counter));

  await t.test('leases that it never had hold no slot of anybody else and keep no job alive', async (t) => {
    const job = tollgate.job();
    await tollgate.send(job);
    const held = await worker.dispatched(job.id);
    const creditsBefore = await tollgate.books.credits();
    // n2 claims the job that n1 runs, and one that does not exist.
    const thief = await tollgate.connectAs(nodeUser('n2'));
    const [other] = (await tollgate.fleet.list()).filter(({ node }) => node === 'n2');
    await worker.sayAsFleet(
      word({ node: 'n2', session: other?.session, leases: [{ job: job.id, attempt: 1 }] }),
    );
    await thief.publisher.publish({
      exchange: 'fleet',
      routingKey: 'heartbeat',
      body: word({
        node: 'n2',
        session: other?.session,
        pools: ['other'],
        slots_total: 4,
        slots_in_use: 2,
        leases: [
          { job: job.id, attempt: 1 },
          { job: newUuidV7(), attempt: 1 },
        ],
      }),
      messageId: newUuidV7(),
      mandatory: true,
    });
    await until(async () => {
      for await (const one of tollgate.fleet.occupancy())
        if (one.node === 'n2' && one.unleased > 0) return true;
      return false;
    }, 'the claim to be heard');
    t.match(await tollgate.leases(), [{ jobId: job.id, node: 'n1' }], 'the lease is still its own');
    await worker.finish(held);
    t.match(await tollgate.reply(job.id), { state: 'succeeded' });
    t.not(await tollgate.books.credits(), creditsBefore, 'paid to nobody but n1');
    t.match(await tollgate.books.job(job.id), { node: 'n1' });
  });

  await t.test('a session that is not the one it was given to', async (t) => {
    const job = tollgate.job();
    await tollgate.send(job);
    const held = await worker.dispatched(job.id);
    const forged = worker.result(held.message, { session: worker.session + 1 });
    await proveNoted(t, tollgate, 'TG_RESULT_STALE', () => worker.publish(forged));
    await worker.finish(held);
    t.equal((await tollgate.reply(job.id)).state, 'succeeded');
  });
});
