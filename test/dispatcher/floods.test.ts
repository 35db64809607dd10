import t from 'tap';
import { publisherPermissions } from '../../src/broker/permissions.ts';
import type { Code } from '../../src/errors.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { publisherUser } from '../../src/contracts/names.ts';
import type { ReplyMessage } from '../../src/contracts/reply.ts';
import { until } from '../support/until.ts';
import { type World, world } from '../support/world.ts';

/** Sends `count` jobs of an account at once and resolves with what became of each. */
async function flood(
  tollgate: World,
  account: string,
  count: number,
  client = tollgate.client,
): Promise<ReplyMessage[]> {
  const jobs = Array.from({ length: count }, () =>
    tollgate.job({ id: newUuidV7(), account, namespace: `${account}/prod` }),
  );
  await Promise.all(jobs.map((job) => client.send(job)));
  return Promise.all(jobs.map(({ id }) => client.reply(id)));
}

function refusedWith(replies: readonly ReplyMessage[], code: Code): ReplyMessage[] {
  return replies.filter(({ state, error }) => state === 'refused' && error?.code === code);
}

function succeeded(replies: readonly ReplyMessage[]): ReplyMessage[] {
  return replies.filter(({ state }) => state === 'succeeded');
}

/** What nobody may ever find: money that moved for a refused job, or a row of it. */
async function leftNoTrace(tollgate: World, replies: readonly ReplyMessage[]): Promise<boolean> {
  const [first] = replies;
  if (first === undefined || first.job === null) return false;
  return (await tollgate.books.job(first.job)) === undefined;
}

await t.test('an account that floods is refused, and the others are served', async (t) => {
  const tollgate = await world(t);
  await tollgate.addPublisher('flood-loud');
  await tollgate.addAccount('flooder', ['flood-loud'], 1_000_000_000n);
  await tollgate.accounts.limit('flooder', { jobsPerSecond: 1, burstJobs: 5 });
  const loud = await tollgate.connectClient('flood-loud');
  const code = 'TG_RATE_LIMITED';

  const [floodReplies, others] = await Promise.all([
    flood(tollgate, 'flooder', 300, loud),
    flood(tollgate, 'acme', 20),
  ]);
  t.equal(succeeded(others).length, 20, "all of the other account's jobs");
  const refused = refusedWith(floodReplies, code);
  t.equal(refused.length + succeeded(floodReplies).length, 300, 'each is answered');
  t.ok(refused.length > 250, `${refused.length} refused`);
  t.match(refused[0], { error: { field: 'account', retryable: true, message: /try again in \d+ ms/ } });
  t.equal(await tollgate.metric('tollgate_jobs_refused_total', { code }), refused.length);
  t.ok(await leftNoTrace(tollgate, refused), 'a refused job has no row');
  const events = await tollgate.books.events({ code });
  t.ok(events.length >= 1 && events.length <= 2, `${events.length} events, one a minute`);
  t.match(events[0], { kind: 'refusal', sender: publisherUser('flood-loud') });

  await t.test('and may go on when its time has come', async (t) => {
    await tollgate.accounts.limit('flooder', { jobsPerSecond: 0, burstJobs: 0 });
    await until(async () => {
      const [reply] = await flood(tollgate, 'flooder', 1, loud);
      return reply?.state === 'succeeded';
    }, 'the limit to be gone');
    t.pass();
  });
});

await t.test('a publisher has a limit over all its accounts, also for what is no job', async (t) => {
  const tollgate = await world(t, {
    settings: { 'limits.publisherJobsPerSecond': 1, 'limits.publisherBurstJobs': 3 },
  });
  await tollgate.addAccount('second', ['web'], 1_000_000_000n);
  const replies = [
    ...(await flood(tollgate, 'acme', 3)),
    ...(await flood(tollgate, 'second', 10)),
    ...(await flood(tollgate, 'nobody', 10)),
  ];
  t.ok(refusedWith(replies, 'TG_RATE_LIMITED').length >= 18);
  t.match(refusedWith(replies, 'TG_RATE_LIMITED')[0], { error: { field: 'user_id' } });
});

await t.test('an account has so many jobs under way and no more', async (t) => {
  const tollgate = await world(t, { workers: 0, settings: { 'limits.refreshMs': 100 } });
  await tollgate.accounts.limit('acme', { openLocksMax: 2 });
  await tollgate.addNode('n1');
  const worker = await tollgate.startHandWorker('n1', 8);
  const jobs = [tollgate.job(), tollgate.job()];
  for (const job of jobs) {
    await tollgate.send(job);
    await worker.dispatched(job.id);
  }
  const third = await tollgate.run(tollgate.job());
  t.match(third, { state: 'refused', error: { code: 'TG_OPEN_LOCKS', retryable: true } });
  t.match(await tollgate.books.events({ code: 'TG_OPEN_LOCKS' }), [{ kind: 'refusal' }]);

  await t.test('until one of them ends', async (t) => {
    const [held] = worker.held;
    if (held === undefined) throw new Error('nothing is held');
    await worker.finish(held);
    const job = tollgate.job();
    await tollgate.reply(held.message.job);
    await tollgate.send(job);
    await worker.dispatched(job.id);
    t.pass();
  });

  /** Whether a new job is taken, or refused by this bound; one that is taken stays with the worker. */
  const isTaken = async (): Promise<boolean> => {
    const job = tollgate.job();
    await tollgate.send(job);
    const isHeld = () => worker.held.some(({ message }) => message.job === job.id);
    const replies = () => tollgate.client.repliesTo(job.id);
    await until(() => isHeld() || replies().length > 0, 'an answer');
    if (isHeld()) return true;
    t.match(replies(), [{ message: { error: { code: 'TG_OPEN_LOCKS' } } }]);
    return false;
  };

  await t.test('and again when all have ended', async (t) => {
    // A count that PostgreSQL began before the last lock may be taken over after it, and the next one puts it right.
    await until(async () => !(await isTaken()), 'a job to be refused, as two are under way again');
    while (worker.held[0]) await worker.finish(worker.held[0]);
    await until(isTaken, 'a job to be taken again');
    while (worker.held[0]) await worker.finish(worker.held[0]);
    t.pass();
  });
});

await t.test(
  'an account has so many jobs that wait for a slot, and the others are not behind them',
  async (t) => {
    const tollgate = await world(t, { workers: 0, settings: { 'line.pauseAfterMs': 30_000 } });
    await tollgate.addAccount('queuer', ['web'], 1_000_000_000n);
    await tollgate.accounts.limit('queuer', { queuedMax: 2 });
    await tollgate.addNode('n1');
    const worker = await tollgate.startHandWorker('n1', 1);
    const first = tollgate.job();
    await tollgate.send(first);
    const held = await worker.dispatched(first.id);
    const jobs = Array.from({ length: 8 }, () =>
      tollgate.job({ account: 'queuer', namespace: 'queuer/prod' }),
    );
    await Promise.all(jobs.map((job) => tollgate.send(job)));
    const refusals = () =>
      jobs.filter(({ id }) =>
        tollgate.client.repliesTo(id).some(({ message }) => message.error?.code === 'TG_QUEUED_JOBS'),
      );
    await until(() => refusals().length > 0, 'a job to be refused');
    const other = tollgate.job();
    await tollgate.send(other);
    await until(
      async () => (await tollgate.metric('tollgate_jobs_held')) === 1 + jobs.length - refusals().length,
      'each to wait or to be refused',
    );
    await worker.finish(held);
    // It came last, and is served after at most one of the other account's.
    await until(async () => {
      const [next] = worker.held;
      if (next !== undefined && next.message.job !== other.id) await worker.finish(next);
      return next?.message.job === other.id;
    }, "the other account's turn");
    const before = jobs.filter(({ id }) => tollgate.client.repliesTo(id).length > 0).length;
    t.ok(before - refusals().length <= 1, `${before - refusals().length} were served before it`);
  },
);

await t.test('a publisher that goes on is cut off and let in again', async (t) => {
  const tollgate = await world(t, {
    isDaemonStarted: false,
    workers: 0,
  });
  const settings = {
    'servers.amqpAdminUrl': tollgate.servers.amqpAdminUrl,
    'limits.floodJobsPerSecond': '20',
    'limits.floodMs': '1000',
    'limits.holdOffMs': '2500',
    'limits.refreshMs': '100',
  };
  await tollgate.addNode('n1');
  await tollgate.startDaemon(settings);
  await tollgate.startWorker('n1', 4);
  await tollgate.addPublisher('flood-loud');
  await tollgate.addAccount('flooder', ['flood-loud'], 1_000_000_000n);
  await tollgate.accounts.limit('flooder', { jobsPerSecond: 1, burstJobs: 1 });
  const loud = await tollgate.connectClient('flood-loud');
  const user = publisherUser('flood-loud');
  const code = 'TG_PUBLISHER_CUT_OFF';
  const send = () => loud.send(tollgate.job({ account: 'flooder', namespace: 'flooder/prod' }));
  const isCutOff = async () => (await tollgate.accounts.show('flooder')).publishers[0]?.bannedMs !== 0;
  await until(async () => {
    // A connection that is closed, or a right that is gone, gives no confirm.
    await Promise.race([Promise.all(Array.from({ length: 30 }, send)), pause(200)]);
    return isCutOff();
  }, 'the cut-off');
  await until(async () => (await rightsOf(tollgate, user)) === '^$', 'its right to be taken');
  t.equal((await tollgate.client.run(tollgate.job())).state, 'succeeded', 'nobody else is touched');
  t.equal(await tollgate.metric('tollgate_publishers_cut_off_total'), 1);
  t.ok((await tollgate.books.events({ code, kind: 'anomaly' })).length >= 1, 'an event tells of it');

  await t.test('also by a coordinator that was started meanwhile', async (t) => {
    await tollgate.stopDaemon();
    await tollgate.startDaemon(settings);
    await until(
      async () => (await rightsOf(tollgate, user)) === publisherPermissions(user).write,
      'its right',
    );
    await until(async () => !(await isCutOff()), 'the end of the cut-off');
    await until(() => loud.broker.isUp, 'its connection');
    await until(async () => {
      const job = tollgate.job({ account: 'flooder', namespace: 'flooder/prod' });
      return (await loud.send(job)) === 'confirmed' && (await loud.reply(job.id)).state === 'succeeded';
    }, 'a job of its own to succeed');
    t.pass();
  });
});

/** What a RabbitMQ user may write in the test's vhost. */
async function rightsOf({ servers }: World, user: string): Promise<unknown> {
  const { origin, username, password } = new URL(servers.amqpAdminUrl);
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  const path = `/api/permissions/${encodeURIComponent(servers.vhost)}/${user}`;
  const answer: unknown = await (await fetch(`${origin}${path}`, { headers: { authorization } })).json();
  return typeof answer === 'object' && answer !== null && 'write' in answer ? answer.write : null;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, ms));
}
