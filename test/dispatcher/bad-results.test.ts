import t, { type Test } from 'tap';
import type { AmqpBroker } from '../../src/broker/connection.ts';
import type { DispatchMessage } from '../../src/contracts/dispatch.ts';
import { nodeUser } from '../../src/contracts/names.ts';
import type { ResultMessage } from '../../src/contracts/result.ts';
import type { Code } from '../../src/errors.ts';
import { newUuidV7 } from '../../src/ids.ts';
import type { HandWorker } from '../support/hand-worker.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';

/**
 * Every kind of bad result, end to end on real servers, each for a job that runs: it is counted, MongoDB keeps an event, no
 * credit moves and the job goes on; the good result that follows settles it.
 */
interface BadResult {
  readonly name: string;
  readonly code: Code;
  readonly field: string | null;
  readonly make: (dispatch: DispatchMessage) => unknown;
  /** Who sends it; default the node itself. */
  readonly sender?: { readonly user: string | null; readonly broker: AmqpBroker };
}

/** Waits for the one event that `code` made since `from`, and for the counter to have moved by one. */
async function proveNoted(
  t: Test,
  tollgate: World,
  expected: { readonly code: Code; readonly field: string | null; readonly sender: string | null },
  act: () => Promise<unknown>,
): Promise<void> {
  const { code } = expected;
  const counted = () => tollgate.metric('tollgate_results_refused_total', { code });
  const countedBefore = await counted();
  const creditsBefore = await tollgate.books.credits();
  const from = new Date();
  await act();
  const found = () => tollgate.books.events({ ...expected, kind: 'anomaly', at: { $gte: from } });
  await until(async () => (await found()).length > 0, `an event with ${code}`);
  t.equal((await found()).length, 1, 'one event');
  await until(async () => (await counted()) === countedBefore + 1, `${code} to be counted`);
  t.equal(await tollgate.books.credits(), creditsBefore, 'no credit moved');
}

async function proveRefused(t: Test, tollgate: World, worker: HandWorker, bad: BadResult): Promise<void> {
  const job = tollgate.job();
  await tollgate.send(job);
  const held = await worker.dispatched(job.id);
  const { code, field, sender = { user: nodeUser('n1'), broker: undefined } } = bad;
  await proveNoted(t, tollgate, { code, field, sender: sender.user }, () =>
    worker.publish(bad.make(held.message), sender.broker),
  );
  t.equal((await tollgate.books.job(job.id))?.state, 'locked', 'the job goes on');
  t.same(tollgate.client.repliesTo(job.id), []);

  await worker.finish(held);
  const reply = await tollgate.reply(job.id);
  t.match(reply, { state: 'succeeded', charged_micro: 11 }, 'the good result settles it');
  t.same(await tollgate.books.transfersOf(job.id), ['lock', 'capture']);
}

function malformed(worker: HandWorker): BadResult[] {
  const spoilt = (name: string, field: string, spoil: (good: ResultMessage) => unknown): BadResult => ({
    name,
    code: 'TG_RESULT_INVALID',
    field,
    make: (dispatch) => spoil(worker.result(dispatch)),
  });
  const error = { code: 'x', message: 'y' };
  return [
    spoilt('bytes that are no JSON', 'body', () => Buffer.from('{')),
    spoilt('a result over 1 MiB', 'body', (good) => ({
      ...good,
      output: { text: 'x'.repeat(1_100_000), finish_reason: 'stop' },
    })),
    spoilt('an unknown field', 'extra', (good) => ({ ...good, extra: 1 })),
    spoilt('a field of the wrong type', 'usage.output_tokens', (good) => ({
      ...good,
      usage: { ...good.usage, output_tokens: -1 },
    })),
    spoilt('a key __proto__', '__proto__', () => Buffer.from('{"__proto__":{}}')),
    spoilt('a completed result without output', 'output', (good) => ({ ...good, output: null })),
    spoilt('a completed result with an error', 'error', (good) => ({ ...good, error })),
    spoilt('a failed result with output', 'output', (good) => ({ ...good, status: 'failed', error })),
    spoilt('token times that do not match the tokens', 'tokens', (good) => ({
      ...good,
      tokens: { ends: [1, 2], at_ms: [1] },
    })),
    {
      name: 'half a surrogate pair, which has the digest of U+FFFD',
      code: 'TG_RESULT_INVALID',
      field: 'output.text',
      make: (dispatch) => {
        const good = worker.result(dispatch, { output: { text: '\ufffd', finish_reason: 'stop' } });
        return { ...good, output: { text: '\ud800', finish_reason: 'stop' } };
      },
    },
  ];
}

async function forged(tollgate: World, worker: HandWorker, other: HandWorker): Promise<BadResult[]> {
  const anonymous = await tollgate.connectAs(nodeUser('n1'), null);
  const stranger = await tollgate.connectAs(nodeUser('n2'));
  await tollgate.addBrokerUser(nodeUser('ghost'));
  const ghost = await tollgate.connectAs(nodeUser('ghost'));
  const good = (dispatch: DispatchMessage) => worker.result(dispatch);
  return [
    {
      name: 'no user-id',
      code: 'TG_RESULT_SENDER',
      field: 'user_id',
      make: good,
      sender: { user: null, broker: anonymous },
    },
    {
      name: "another node's user-id",
      code: 'TG_RESULT_SENDER',
      field: 'user_id',
      make: good,
      sender: { user: nodeUser('n2'), broker: stranger },
    },
    {
      name: 'a node that is not registered',
      code: 'TG_RESULT_SENDER',
      field: 'node',
      make: (dispatch) => worker.result(dispatch, { node: 'ghost' }),
      sender: { user: nodeUser('ghost'), broker: ghost },
    },
    {
      name: 'an output that its digest does not cover',
      code: 'TG_RESULT_SIGNATURE',
      field: 'digest',
      make: (dispatch) => ({ ...good(dispatch), output: { text: 'altered', finish_reason: 'stop' } }),
    },
    {
      name: 'usage that its digest does not cover',
      code: 'TG_RESULT_SIGNATURE',
      field: 'digest',
      make: (dispatch) => ({ ...good(dispatch), usage: { input_tokens: 100, output_tokens: 8 } }),
    },
    {
      name: 'a digest that its flush does not list',
      code: 'TG_RESULT_SIGNATURE',
      field: 'flush.digests',
      make: (dispatch) => ({
        ...good(dispatch),
        flush: { ...good(dispatch).flush, digests: ['0'.repeat(64)] },
      }),
    },
    {
      name: 'a signature made with another key',
      code: 'TG_RESULT_SIGNATURE',
      field: 'flush.signature',
      make: (dispatch) => other.result(dispatch),
    },
    {
      name: 'a signature that is no base64',
      code: 'TG_RESULT_SIGNATURE',
      field: 'flush.signature',
      make: (dispatch) => ({ ...good(dispatch), flush: { ...good(dispatch).flush, signature: '???' } }),
    },
    {
      name: 'another attempt',
      code: 'TG_RESULT_STALE',
      field: null,
      make: (dispatch) => worker.result(dispatch, { attempt: 2 }),
    },
    {
      name: 'another session of the node',
      code: 'TG_RESULT_STALE',
      field: null,
      make: (dispatch) => worker.result(dispatch, { session: worker.session - 1 }),
    },
    {
      name: 'a node that the job was not given to',
      code: 'TG_RESULT_STALE',
      field: null,
      make: (dispatch) => other.result(dispatch, { node: 'n2' }),
      sender: { user: nodeUser('n2'), broker: stranger },
    },
    {
      name: 'a job that nobody knows',
      code: 'TG_RESULT_UNKNOWN_JOB',
      field: null,
      make: (dispatch) => worker.result(dispatch, { job: newUuidV7() }),
    },
  ];
}

await t.test('a bad result settles nothing and harms nobody', async (t) => {
  const tollgate = await world(t, { workers: 0, settings: { 'results.verifySampleShare': 1 } });
  await tollgate.addModel('other');
  await tollgate.addNode('n1');
  await tollgate.addNode('n2', ['other']);
  const worker = await tollgate.startHandWorker('n1', 4);
  const other = await tollgate.startHandWorker('n2', 4, ['other']);
  for (const bad of [...malformed(worker), ...(await forged(tollgate, worker, other))])
    await t.test(bad.name, (t) => proveRefused(t, tollgate, worker, bad));

  /** Sends a job and lets it run to its end. */
  const settled = async (change: Parameters<HandWorker['finish']>[1] = {}) => {
    const job = tollgate.job();
    await tollgate.send(job);
    const held = await worker.dispatched(job.id);
    const result = await worker.finish(held, change);
    return { job, held, result, reply: await tollgate.reply(job.id) };
  };

  await t.test('the same result again is answered again and charged once', async (t) => {
    const { job, result, reply } = await settled();
    const creditsBefore = await tollgate.books.credits();
    await worker.publish(result);
    await until(() => tollgate.client.repliesTo(job.id).length === 2, 'the second reply');
    const replies = tollgate.client.repliesTo(job.id);
    t.same(
      replies.map(({ message }) => message),
      [reply, reply],
    );
    t.equal(replies[0]?.messageId, replies[1]?.messageId, 'with the same message_id');
    t.equal(await tollgate.books.credits(), creditsBefore);
    t.equal((await tollgate.books.traces('attempts', job.id)).length, 1);
  });

  await t.test('a different second result changes nothing', async (t) => {
    const { job, held, reply } = await settled();
    const second = worker.result(held.message, {
      output: { text: 'a better answer', finish_reason: 'stop' },
    });
    const expected = { code: 'TG_RESULT_CONFLICT', field: null, sender: nodeUser('n1') } as const;
    await proveNoted(t, tollgate, expected, () => worker.publish(second));
    t.same(
      tollgate.client.repliesTo(job.id).map(({ message }) => message),
      [reply],
    );
  });

  await t.test('usage beyond the limits is charged at the lock and noted', async (t) => {
    const code = 'TG_RESULT_USAGE';
    const counted = await tollgate.metric('tollgate_results_refused_total', { code });
    const { job, reply } = await settled({ usage: { input_tokens: 5_000, output_tokens: 5_000 } });
    t.match(reply, { state: 'succeeded', charged_micro: 116 }, '100 tokens in and 8 out');
    t.match(await tollgate.books.job(job.id), { locked_micro: '116', charged_micro: '116' });
    await until(async () => (await tollgate.books.traces('events', job.id)).length > 0, 'the event');
    t.match(await tollgate.books.traces('events', job.id), [{ kind: 'anomaly', code }]);
    t.equal(await tollgate.metric('tollgate_results_refused_total', { code }), counted + 1);
  });

  await t.test('a failed result ends the job and nothing is charged', async (t) => {
    const { job, reply } = await settled({
      status: 'failed',
      output: null,
      usage: { input_tokens: 0, output_tokens: 0 },
      error: { code: 'model_error', message: 'out of memory' },
    });
    t.match(reply, {
      state: 'failed',
      charged_micro: 0,
      error: { code: 'TG_WORKER_ERROR', retryable: true },
    });
    t.same(await tollgate.books.transfersOf(job.id), ['lock', 'void']);
    t.match(await tollgate.books.traces('attempts', job.id), [
      { outcome: 'failed', result: { error: { code: 'model_error' } } },
    ]);
  });

  await tollgate.slotsAreFree();
  const accounts = await tollgate.books.accounts();
  t.same(
    accounts.map(({ counted }) => counted),
    accounts.map(({ computed }) => computed),
    'the counters are what the transfers add up to',
  );
});

await t.test('whose signature is checked before it settles', async (t) => {
  const tollgate = await world(t, {
    workers: 0,
    settings: { 'results.verifySampleShare': 0, 'results.verifyAmountMicro': 1_000 },
  });
  await tollgate.addModel('other');
  await tollgate.addNode('n1');
  await tollgate.addNode('n2', ['other'], 'probation');
  const active = await tollgate.startHandWorker('n1', 4);
  const onProbation = await tollgate.startHandWorker('n2', 4, ['other']);
  const settles = async (model: string, worker: HandWorker, usage: ResultMessage['usage']) => {
    const job = tollgate.job({ model, limits: { ...tollgate.job().limits, output_tokens_max: 1_000 } });
    await tollgate.send(job);
    const held = await worker.dispatched(job.id);
    const good = worker.result(held.message, { usage });
    const signature = Buffer.alloc(64).toString('base64');
    await worker.publish({ ...good, flush: { ...good.flush, signature } });
    const noted = async () => (await tollgate.books.traces('events', job.id)).length > 0;
    const ended = async () => (await tollgate.books.job(job.id))?.state === 'succeeded';
    await until(async () => (await noted()) || (await ended()), 'a verdict');
    const isSettled = await ended();
    await worker.finish(held, { usage });
    t.equal((await tollgate.reply(job.id)).state, 'succeeded');
    return isSettled;
  };
  const small = { input_tokens: 5, output_tokens: 3 };
  t.equal(
    await settles('small', active, small),
    true,
    'a small amount of an active node: later, in a sample',
  );
  t.equal(await settles('small', active, { input_tokens: 5, output_tokens: 900 }), false, 'a large amount');
  t.equal(await settles('other', onProbation, small), false, 'a node on probation');
  await tollgate.slotsAreFree();
});
