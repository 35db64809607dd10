import t from 'tap';
import { jobQueue } from '../../src/contracts/names.ts';
import { until } from '../support/until.ts';
import { world } from '../support/world.ts';

/** SIGTERM: the daemon takes nothing new, ends what is under way, hands back the rest, and exits 0. */
await t.test('a drain ends what is under way and hands back the rest', async (t) => {
  const tollgate = await world(t, {
    workers: 0,
    isDaemonStarted: false,
    settings: { 'line.pauseAfterMs': 30_000, 'http.readyCacheMs': 0 },
  });
  await tollgate.addNode('n1');
  const daemon = await tollgate.startChildDaemon(t);
  const worker = await tollgate.startHandWorker('n1', 2);
  const { books, client } = tollgate;
  const queue = jobQueue('small', 'interactive');

  const running = tollgate.job();
  await client.send(running);
  const held = await worker.dispatched(running.id);
  const accounts = await books.holdAccounts();
  const underWay = tollgate.job();
  await client.send(underWay);
  await books.lockIsAwaited();
  const waiting = [1, 2, 3, 4, 5].map(() => tollgate.job());
  for (const job of waiting) await client.send(job);
  await until(async () => (await tollgate.metric('tollgate_jobs_received_total')) === 7, 'all to be taken');

  const ended = daemon.stop();
  await until(async () => (await fetch(`${daemon.httpUrl}/readyz`)).status === 503, 'it to be not ready');
  t.equal((await fetch(`${daemon.httpUrl}/livez`)).status, 200, 'it lives on');
  await until(
    async () => (await tollgate.queue(queue)).messages === 5,
    'what has no slot to be back in its queue',
  );
  await accounts.letGo();
  t.equal(await ended, 0, 'it exits well');

  await worker.dispatched(underWay.id);
  t.equal((await tollgate.queue(queue)).messages, 5, 'and nobody took it again');
  t.same(await books.states(), { locked: 2 });
  for (const { id } of [running, underWay])
    t.equal((await books.traces('requests', id)).length, 1, 'what was dispatched has its trace');

  await worker.finish(held);
  await worker.finish(await worker.dispatched(underWay.id));
  await tollgate.startChildDaemon(t);
  const all = [running, underWay, ...waiting];
  await until(
    async () => {
      for (const one of worker.held.splice(0)) await worker.finish(one);
      return all.every(({ id }) => client.repliesTo(id).length > 0);
    },
    'all to end',
    { timeoutMs: 20_000 },
  );
  for (const { id } of all) t.same(await books.transfersOf(id), ['lock', 'capture']);
  await tollgate.slotsAreFree();
});
