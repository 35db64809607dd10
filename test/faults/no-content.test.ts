import t from 'tap';
import type { JobMessage } from '../../src/contracts/job.ts';
import { proxiedWorld } from '../support/proxied-world.ts';
import { encodingsOf, postgresText, redisText } from '../support/store-texts.ts';
import { until } from '../support/until.ts';

/** In every prompt and every answer of this file, and nowhere else. */
const MARKER = 'quokka-7f3d9e21-marker';

/**
 * Content is in the broker's messages and in MongoDB, and nowhere else: not in a log at level debug, not in PostgreSQL, not in
 * Redis, not on a page of the daemon; also when jobs are refused, fail or get lost, and when servers break under them.
 */
await t.test('prompts and answers are found in MongoDB alone', async (t) => {
  const { tollgate, links } = await proxiedWorld(t, {
    workers: 0,
    isDaemonStarted: false,
    settings: { 'traces.writeMsMax': 500, 'traces.spoolDrainMs': 100, 'results.verifySampleShare': 1 },
  });
  await tollgate.addAccount('poor', ['web'], 1n);
  await tollgate.addModel('idle');
  await tollgate.addModel('left');
  await tollgate.addNode('n1');
  await tollgate.addNode('n2', ['left']);
  const daemon = await tollgate.startChildDaemon(t);
  const worker = await tollgate.startHandWorker('n1', 8);
  const leaver = await tollgate.startHandWorker('n2', 8, ['left']);
  const { client, books } = tollgate;

  const marked = (change: Partial<JobMessage> = {}) =>
    tollgate.job({ input: { messages: [{ role: 'user', content: `${MARKER} in a prompt` }] }, ...change });
  const answer = { text: `${MARKER} in an answer`, finish_reason: 'stop' as const };
  /** Sends a job to the worker and returns what it was given. */
  const dispatched = async (job = marked()) => {
    await client.send(job);
    return worker.dispatched(job.id);
  };
  const isAnswered = (job: JobMessage) => until(() => client.repliesTo(job.id).length > 0, 'a reply');

  await t.test('jobs end in every way', async () => {
    const good = marked();
    await worker.finish(await dispatched(good), { output: answer });
    await isAnswered(good);
    await client.send(good, { correlationId: 'again' });
    await until(() => client.repliesTo('again').length > 0, 'the answer again');

    const failed = marked();
    const error = { code: 'model_error', message: 'the model server answered 500' };
    await worker.finish(await dispatched(failed), { status: 'failed', output: null, error });
    await isAnswered(failed);

    const refused = [
      marked({ account: 'poor', namespace: 'poor/prod' }),
      marked({ account: 'nobody' }),
      marked({ model: 'nothing' }),
      marked({ stream: true }),
      marked({ input: { messages: [{ role: 'user', content: MARKER }], [MARKER]: MARKER } }),
      { ...good, input: { messages: [{ role: 'user', content: `${MARKER}, another body` }] } },
    ];
    for (const job of refused) {
      await client.send(job, { correlationId: `refused ${job.model}` });
      await isAnswered(job);
    }
    const broken = [`{"prompt": "${MARKER}`, `"${MARKER}"`, `{"${MARKER}": {"__proto__": "${MARKER}"}}`];
    for (const [i, body] of broken.entries()) {
      await client.send(Buffer.from(body), { correlationId: `broken ${i}` });
      await until(() => client.repliesTo(`broken ${i}`).length > 0, 'a refusal');
    }
    await client.send(marked(), { replyTo: 'reply.p-rival' });

    const expired = marked({ model: 'idle', limits: { ...good.limits, wait_ms: 200 } });
    await client.send(expired);
    await isAnswered(expired);
    const lost = marked({ model: 'left' });
    await client.send(lost);
    await leaver.dispatched(lost.id);
    leaver.fallSilent();
    await isAnswered(lost);
  });

  await t.test('results are refused', async () => {
    const job = marked();
    const held = await dispatched(job);
    const result = worker.result(held.message, { output: answer });
    await worker.publish(Buffer.from(`{"output": "${MARKER}`));
    await worker.publish({ ...result, [MARKER]: MARKER });
    await worker.publish({ ...result, output: { ...answer, text: `${MARKER}, altered` } });
    await worker.publish(worker.result(held.message, { output: answer, attempt: 2 }));
    await worker.finish(held, { output: answer });
    await isAnswered(job);
    await worker.publish(
      worker.result(held.message, { output: { ...answer, text: `${MARKER}, different` } }),
    );
    await until(async () => (await books.events({ code: 'TG_RESULT_CONFLICT' })).length > 0, 'the event');
  });

  await t.test('servers break under them', async () => {
    for (const link of [links.mongo, links.redis, links.postgres, links.amqp]) {
      const job = marked();
      const logged = daemon.log.length;
      link.cut();
      await client.send(job);
      await until(() => daemon.log.length > logged, 'the daemon to complain');
      link.heal();
      await worker.finish(await worker.dispatched(job.id), { output: answer });
      await until(() => client.repliesTo(job.id).length > 0, 'a reply', { timeoutMs: 20_000 });
    }
  });

  await t.test('the search', async (t) => {
    await until(async () => (await books.states())['locked'] === undefined, 'all jobs to end');
    const places = {
      'the log of the daemon, at level debug': daemon.log,
      'a dump of PostgreSQL': await postgresText(tollgate.servers.postgresAdminUrl, books),
      'every value in Redis': await redisText(tollgate.servers.redisUrl),
      '/metrics': await page(daemon.httpUrl, '/metrics'),
      '/readyz?verbose': await page(daemon.httpUrl, '/readyz?verbose'),
    };
    for (const [place, text] of Object.entries(places)) {
      t.ok(text.length > 100, `${place} was read: ${text.length} characters`);
      for (const form of encodingsOf(MARKER))
        t.notOk(text.toLowerCase().includes(form.toLowerCase()), `${place} does not have ${form}`);
    }
    const traces = await books.traceText();
    t.ok(traces.includes(`${MARKER} in a prompt`), 'MongoDB has the prompts');
    t.ok(traces.includes(`${MARKER} in an answer`), 'MongoDB has the answers');
  });
});

await t.test('the search would find it, also in hex and in base64', async (t) => {
  for (let before = 0; before < 6; before++) {
    const bytes = Buffer.from(`${'{'.repeat(before)}${MARKER}}`);
    for (const encoding of ['utf8', 'hex', 'base64'] as const) {
      const text = bytes.toString(encoding);
      t.ok(
        encodingsOf(MARKER).some((form) => text.includes(form)),
        `${encoding} behind ${before} others`,
      );
    }
  }
});

async function page(httpUrl: string, path: string): Promise<string> {
  return (await fetch(new URL(path, httpUrl))).text();
}
