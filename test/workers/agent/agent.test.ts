import { verify } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { EXCHANGE, nodeQueue, nodeUser } from '../../../src/contracts/names.ts';
import type { ResultMessage } from '../../../src/contracts/result.ts';
import { flushBytes, helloBytes, resultDigest } from '../../../src/contracts/signed-bytes.ts';
import { ModelServer } from '../../../src/demo/model-server.ts';
import { publicKeyFromRaw, rawPublicKey } from '../../../src/workers/agent/keys.ts';
import { until } from '../../support/until.ts';
import { type Rig, rig, SESSION } from './rig.ts';
import { beginStream, DONE, finish, type Script, scriptedModel, token, usage } from './scripted-model.ts';

/** A worker's rig in front of a model that does what `script` says. */
async function scriptedRig(t: Test, script: Script): Promise<Rig & { requests: Record<string, unknown>[] }> {
  const { url, requests } = await scriptedModel(t, script);
  return { ...(await rig(t, [{ name: 'tiny', url }])), requests };
}

const answers: Script = (response) => {
  beginStream(response);
  response.end(token('yes') + finish('stop') + usage(3, 1) + DONE);
};

/** A model that answers when it is let; `open` has the answers that wait. */
function heldModel(): { script: Script; open: ServerResponse[]; finishAll: () => void } {
  const open: ServerResponse[] = [];
  const script: Script = (response) => {
    beginStream(response);
    response.write(token('begun '));
    open.push(response);
  };
  const finishAll = () => {
    for (const response of open.splice(0)) response.end(token('done') + finish('stop') + usage(3, 2) + DONE);
  };
  return { script, open, finishAll };
}

/** The digest is of this result, and the signature of its flush is the node's. */
function isProven({ digest, flush, ...result }: ResultMessage, { privateKey }: Rig): boolean {
  const bytes = flushBytes(result.node, result.session, flush.digests);
  const publicKey = publicKeyFromRaw(rawPublicKey(privateKey));
  return (
    resultDigest(result).toString('hex') === digest &&
    flush.digests.includes(digest) &&
    verify(null, bytes, publicKey, Buffer.from(flush.signature, 'base64'))
  );
}

const marker = 'MARKER-7f3a';

await t.test(
  'a dispatch becomes a signed result with timed tokens, and a line without content',
  async (t) => {
    const server = new ModelServer({ models: ['tiny'], tokensPerSecond: 500 });
    await server.start();
    t.after(() => server.stop());
    const rigged = await rig(t, [{ name: 'tiny', url: server.url }]);
    const logFile = join(t.testdir(), 'worker.log');
    const gpu = { name: 'none', vram_gb: 0 };
    const worker = await rigged.worker({ logFile, gpu });
    const dispatch = await rigged.dispatch({
      input: { messages: [{ role: 'user', content: `${marker} What is Light` }], seed: 3 },
    });
    const result = await rigged.result(1);
    t.ok(isProven(result, rigged));
    t.match(result, {
      job: dispatch.job,
      attempt: 1,
      node: rigged.node,
      session: SESSION,
      model_version: 3,
      status: 'completed',
      usage: { input_tokens: 4 },
      gpu,
      error: null,
    });
    const [sent] = rigged.results;
    t.equal(sent?.userId, nodeUser(rigged.node));
    t.equal(sent?.messageId, `${dispatch.job}.1`);

    const { ends = [], at_ms: atMs = [] } = result.tokens ?? {};
    t.equal(result.usage.output_tokens, ends.length);
    t.equal(ends.at(-1), result.output?.text.length, 'the last token ends where the text does');
    t.same(
      ends,
      ends.toSorted((a, b) => a - b),
    );
    t.same(
      atMs,
      atMs.toSorted((a, b) => a - b),
    );
    t.equal(result.timing.first_token_ms, atMs[0]);
    t.ok(result.timing.total_ms >= (atMs.at(-1) ?? Infinity));
    t.ok(await rigged.queueEmpty());

    await worker.stop();
    const lines = (await readFile(logFile, 'utf8')).trim().split('\n');
    t.equal(lines.length, 1);
    t.match(JSON.parse(lines[0] ?? ''), {
      job: dispatch.job,
      attempt: 1,
      node: rigged.node,
      session: SESSION,
    });
    t.notMatch(lines[0], marker);
    t.notMatch(rigged.log.lines.join('\n'), marker);
  },
);

await t.test('it says hello with a signature, heartbeats with what it holds, and bye', async (t) => {
  const model = heldModel();
  const rigged = await scriptedRig(t, model.script);
  const worker = await rigged.worker({ heartbeatMs: 20, slots: 2 });
  const { job } = await rigged.dispatch();
  const busy = await until(
    () => rigged.fleet.find(({ value }) => value.leases.length > 0),
    'a heartbeat with a lease',
  );
  t.match(busy, {
    userId: nodeUser(rigged.node),
    value: {
      kind: 'heartbeat',
      slots_total: 2,
      slots_in_use: 1,
      leases: [{ job, attempt: 1 }],
      signature: null,
    },
  });
  model.finishAll();
  await worker.stop();
  await until(() => rigged.fleet.at(-1)?.value.kind === 'bye', 'the bye');
  const [hello] = rigged.fleet;
  t.match(hello?.value, { kind: 'hello', session: SESSION, seq: 1, pools: ['tiny'], warm_models: ['tiny'] });
  const signature = Buffer.from(hello?.value.signature ?? '', 'base64');
  const publicKey = publicKeyFromRaw(rawPublicKey(rigged.privateKey));
  if (hello !== undefined) t.ok(verify(null, helloBytes(hello.value), publicKey, signature));
  t.match(rigged.fleet.at(-1)?.value, { slots_in_use: 0, leases: [] });
  t.same(
    rigged.fleet.map(({ value }) => value.seq),
    rigged.fleet.map((_, i) => i + 1),
  );
});

await t.test('a dispatch that comes again is answered with the same bytes and run once', async (t) => {
  const rigged = await scriptedRig(t, answers);
  await rigged.worker();
  const dispatch = await rigged.dispatch();
  await rigged.result(1);
  await rigged.dispatch(dispatch);
  await rigged.result(2);
  t.ok(rigged.results[0]?.body.equals(rigged.results[1]?.body ?? Buffer.alloc(0)));
  t.equal(rigged.requests.length, 1);
  await rigged.dispatch({ ...dispatch, attempt: 2 });
  await rigged.result(3);
  t.equal(rigged.requests.length, 2, 'another attempt is another run');
  t.ok(await rigged.queueEmpty());
});

await t.test('a dispatch that comes again while it runs is run once and answered once', async (t) => {
  const model = heldModel();
  const rigged = await scriptedRig(t, model.script);
  await rigged.worker();
  const dispatch = await rigged.dispatch();
  await until(() => model.open.length === 1, 'the model to be asked');
  await rigged.dispatch(dispatch);
  await rigged.dispatch(dispatch);
  await until(() => rigged.seen.length === 3, 'the duplicates');
  model.finishAll();
  await rigged.result(1);
  t.ok(await rigged.queueEmpty());
  t.equal(rigged.results.length, 1);
  t.equal(rigged.requests.length, 1);
});

await t.test('no more than its slots run at a time', async (t) => {
  const model = heldModel();
  const rigged = await scriptedRig(t, model.script);
  await rigged.worker({ slots: 2 });
  for (let i = 0; i < 5; i++) await rigged.dispatch();
  for (let done = 0; done < 5; ) {
    await until(() => model.open.length === Math.min(2, 5 - done), 'the slots to fill');
    done += model.open.length;
    model.finishAll();
    await rigged.result(done);
  }
  t.equal(rigged.requests.length, 5);
});

await t.test(
  'a dispatch of an earlier session is answered as stale, in its own name, and not run',
  async (t) => {
    const rigged = await scriptedRig(t, answers);
    await rigged.worker();
    await rigged.dispatch({ session: SESSION - 1 });
    const result = await rigged.result(1);
    t.match(result, {
      session: SESSION - 1,
      status: 'failed',
      output: null,
      error: { code: 'TG_WORKER_STALE_SESSION' },
    });
    t.ok(isProven(result, rigged));
    t.ok(await rigged.queueEmpty());
    t.equal(rigged.requests.length, 0);
  },
);

await t.test('a dispatch of a later session is handed back, and the worker steps down for it', async (t) => {
  const rigged = await scriptedRig(t, answers);
  const old = await rigged.worker();
  await rigged.dispatch({ session: SESSION + 1 });
  t.equal(await old.ended, 'superseded');
  t.notOk(
    rigged.fleet.some(({ value }) => value.kind === 'bye'),
    'the newer session speaks for the node',
  );
  await rigged.worker({ session: SESSION + 1 });
  t.match(await rigged.result(1), { session: SESSION + 1, status: 'completed' });
});

await t.test('an attempt ends when the time of its job does', async (t) => {
  const rigged = await scriptedRig(t, heldModel().script);
  await rigged.worker();
  await rigged.dispatch({ remaining_ms: 60 });
  const result = await rigged.result(1);
  t.match(result, { status: 'failed', error: { code: 'deadline' }, usage: { output_tokens: 0 } });
  t.ok(isProven(result, rigged));
  t.ok(result.timing.total_ms >= 55 && result.timing.first_token_ms !== null);
});

await t.test('what a model server does wrong is a failed result with its code', async (t) => {
  const scripts: Record<string, Script> = {
    model_error: (response) => response.writeHead(500).end(`{"error":{"message":"${marker}"}}`),
    stream_broken: (response) => {
      beginStream(response);
      response.write(token(marker), () => response.destroy());
    },
  };
  const rigged = await scriptedRig(t, (response, body, request) => {
    for (const [code, script] of Object.entries(scripts))
      if (JSON.stringify(body).includes(code)) script(response, body, request);
  });
  await rigged.worker();
  for (const [i, code] of Object.keys(scripts).entries()) {
    await rigged.dispatch({ input: { messages: [{ role: 'user', content: code }] } });
    t.match(await rigged.result(i + 1), { status: 'failed', output: null, tokens: null, error: { code } });
  }
  await rigged.dispatch({ model: 'other' });
  t.match(await rigged.result(3), { error: { code: 'model_not_served' } });
  t.ok(rigged.results.every(({ value }) => isProven(value, rigged)));
  t.notMatch(rigged.results.map(({ body }) => body.toString()).join('\n'), marker);
  t.notMatch(rigged.log.lines.join('\n'), marker);
});

await t.test('a model server that is not there is a failed result', async (t) => {
  const rigged = await rig(t, [{ name: 'tiny', url: 'http://127.0.0.1:1' }]);
  await rigged.worker();
  await rigged.dispatch();
  t.match(await rigged.result(1), { error: { code: 'model_unreachable' } });
});

await t.test('a dispatch that cannot be read is acknowledged, and the next one runs', async (t) => {
  const rigged = await scriptedRig(t, answers);
  await rigged.worker();
  const bodies = ['', '{', `{"v":1,"${marker}":1}`, '[]', '{"__proto__":1}'];
  for (const body of bodies) await rigged.dispatch({}, { body: Buffer.from(body) });
  await rigged.dispatch({ job: '../../etc' });
  await rigged.dispatch({ node: 'another' });
  await rigged.dispatch({ attempt: 101 });
  await rigged.dispatch({ attempt: 7 });
  t.match(await rigged.result(1), { attempt: 7, status: 'completed' });
  t.ok(await rigged.queueEmpty());
  t.equal(rigged.results.length, 1);
});

await t.test('on stop it finishes what it holds', async (t) => {
  const model = heldModel();
  const rigged = await scriptedRig(t, model.script);
  const worker = await rigged.worker();
  await rigged.dispatch();
  await until(() => model.open.length === 1, 'the model to be asked');
  const stopped = worker.stop();
  await until(() => rigged.fleet.at(-1)?.value.kind === 'drain', 'the drain');
  await rigged.dispatch();
  model.finishAll();
  await stopped;
  t.match(await rigged.result(1), { status: 'completed' });
  t.equal(rigged.requests.length, 1);
  t.ok(await isOneLeft(rigged), 'what came after the drain waits for the next worker');
  t.equal(await worker.ended, 'stopped');
  await until(() => rigged.fleet.at(-1)?.value.kind === 'bye', 'the bye');
});

await t.test('what runs longer than the drain time is cut off and reported', async (t) => {
  const model = heldModel();
  const rigged = await scriptedRig(t, model.script);
  const worker = await rigged.worker({ drainMs: 30 });
  await rigged.dispatch();
  await until(() => model.open.length === 1, 'the model to be asked');
  await worker.stop();
  t.match(await rigged.result(1), { status: 'failed', error: { code: 'worker_stopped' } });
  t.ok(await rigged.queueEmpty());
});

await t.test('a lost connection loses nothing and runs nothing twice', async (t) => {
  const model = heldModel();
  const rigged = await scriptedRig(t, model.script);
  await rigged.worker();
  for (let i = 0; i < 3; i++) await rigged.dispatch();
  await until(() => model.open.length === 3, 'the model to be asked');
  // The statistics learn of a connection some seconds late, and close none before.
  await until(
    async () => {
      await rigged.room.management.closeConnections(nodeUser(rigged.node));
      return rigged.seen.length === 6;
    },
    'the redelivery of all three',
    { everyMs: 500, timeoutMs: 20_000 },
  );
  await until(
    () => rigged.fleet.filter(({ value }) => value.kind === 'hello').length >= 2,
    'the second hello',
  );
  model.finishAll();
  // The queue is not looked at: a forced close that comes late may put one back, to be answered from memory.
  await rigged.result(3);
  t.equal(rigged.requests.length, 3);
  t.same(new Set(rigged.results.map(({ value }) => `${value.job}.1`)), new Set(rigged.seen));
  t.ok(rigged.fleet.every(({ value }) => value.session === SESSION));
});

await t.test('results that end while the broker is away are sent when it is back', async (t) => {
  const model = heldModel();
  const rigged = await scriptedRig(t, model.script);
  const proxy = await rigged.room.proxy();
  await rigged.worker({ proxy });
  await rigged.dispatch();
  await until(() => model.open.length === 1, 'the model to be asked');
  proxy.cut();
  model.finishAll();
  await until(() => rigged.outcomes.includes('unknown'), 'the failed publish');
  proxy.heal();
  t.match(await rigged.result(1), { status: 'completed' });
  // The broker never heard of an acknowledgement: it sends the dispatch again, perhaps only after the result has come.
  await until(() => rigged.seen.length === 2, 'the redelivery');
  t.ok(await rigged.queueEmpty());
  t.equal(rigged.requests.length, 1);
});

await t.test('what comes beyond the slots after a reconnect waits, and is handed back on stop', async (t) => {
  const model = heldModel();
  const rigged = await scriptedRig(t, model.script);
  const proxy = await rigged.room.proxy();
  const worker = await rigged.worker({ proxy, slots: 1 });
  // Its dispatch expires in the queue while the connection is gone, so that the only place is free for another.
  await rigged.dispatch({}, { expirationMs: 1_000 });
  await until(() => model.open.length === 1, 'the model to be asked');
  proxy.cut();
  // Longer than the broker may take to see that the consumer is gone: on a loaded machine that was eleven seconds once.
  const second = await rigged.dispatch({ remaining_ms: 60_000 });
  await until(() => isOneLeft(rigged), 'only the second to be left', { everyMs: 200, timeoutMs: 15_000 });
  proxy.heal();
  await until(() => rigged.seen.includes(`${second.job}.1`), 'the second dispatch');
  t.equal(rigged.requests.length, 1, 'it waits for the slot');
  // The slot comes free while the broker has yet to hear that the worker takes no more.
  proxy.holdAnswers(' consume');
  const stopped = worker.stop();
  model.finishAll();
  await rigged.result(1);
  await until(() => rigged.outcomes.includes('confirmed'), 'the slot to come free');
  proxy.heal();
  await stopped;
  t.equal(rigged.results.length, 1);
  await rigged.worker({ session: SESSION + 1 });
  t.match(await rigged.result(2), { job: second.job, error: { code: 'TG_WORKER_STALE_SESSION' } });
});

/** True when exactly one message waits in the node's queue and nobody consumes from it. */
async function isOneLeft({ room, node }: Rig): Promise<boolean> {
  const { messageCount, consumerCount } = await room.admin.checkQueue(nodeQueue(node));
  return messageCount === 1 && consumerCount === 0;
}

await t.test('a result that nobody takes is sent again until somebody does', async (t) => {
  const rigged = await scriptedRig(t, answers);
  await rigged.worker();
  await rigged.room.admin.unbindQueue('results', EXCHANGE.results, 'result');
  await rigged.dispatch();
  await until(() => rigged.outcomes.includes('returned'), 'the return');
  await rigged.room.admin.bindQueue('results', EXCHANGE.results, 'result');
  t.match(await rigged.result(1), { status: 'completed' });
  t.ok(await rigged.queueEmpty());
});

await t.test('it obeys its control queue, and hands on what is for another session', async (t) => {
  const rigged = await scriptedRig(t, answers);
  const worker = await rigged.worker();
  await rigged.control('hello_again', SESSION);
  await until(() => rigged.fleet.length === 2, 'the second hello');
  t.ok(rigged.fleet[1]?.value.signature);
  await rigged.control('config', SESSION);
  await rigged.control('superseded', SESSION - 1);
  await rigged.coordinator.publisher.publish({
    exchange: EXCHANGE.control,
    routingKey: rigged.node,
    body: Buffer.from('{'),
    messageId: 'bad',
    mandatory: true,
  });
  await rigged.control('drain', SESSION);
  await until(() => rigged.fleet.at(-1)?.value.kind === 'drain', 'the drain');
  await rigged.dispatch();
  await rigged.control('hello_again', SESSION);
  await until(
    () => rigged.fleet.filter(({ value }) => value.kind === 'drain').length === 2,
    'it still drains',
  );
  t.equal(rigged.requests.length, 0, 'a drained worker takes nothing');
  await rigged.control('superseded', SESSION);
  t.equal(await worker.ended, 'superseded');
});

await t.test('it waits for its queues to be declared, and comes back when they are deleted', async (t) => {
  const { url } = await scriptedModel(t, answers);
  const rigged = await rig(t, [{ name: 'tiny', url }], { declare: false });
  const worker = await rigged.worker({ isStarted: false });
  const started = worker.start();
  await until(() => rigged.log.lines.some((line) => line.startsWith('cannot serve yet')), 'the refusal');
  await rigged.coordinator.topology.declareNode(rigged.node);
  await started;
  await rigged.room.admin.deleteQueue(nodeQueue(rigged.node));
  const again = await rigged.room.open({ url: rigged.room.servers.amqpUrl });
  await again.topology.declareNode(rigged.node);
  await until(
    () => rigged.fleet.filter(({ value }) => value.kind === 'hello').length === 2,
    'the second hello',
  );
  await rigged.dispatch();
  t.match(await rigged.result(1), { status: 'completed' });
});

await t.test('start and stop may be called twice and out of order', async (t) => {
  const rigged = await scriptedRig(t, answers);
  const never = await rigged.worker({ isStarted: false });
  await never.stop();
  await never.start();
  const worker = await rigged.worker();
  await worker.start();
  await Promise.all([worker.stop(), worker.stop()]);
  await until(() => rigged.fleet.at(-1)?.value.kind === 'bye', 'the bye');
  t.same(
    rigged.fleet.map(({ value }) => value.kind),
    ['hello', 'drain', 'bye'],
  );
});
