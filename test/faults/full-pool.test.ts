import t from 'tap';
import { proxiedWorld } from '../support/proxied-world.ts';
import { until } from '../support/until.ts';

/**
 * A job that was locked and not dispatched keeps its slot, and needs no other. When such jobs have all the slots of their pool,
 * nobody else will free one: the next process has to take them all the same, or they wait until their leases run out, which is
 * after their start window.
 */
await t.test('jobs that were locked before a kill are dispatched though they fill their pool', async (t) => {
  const { tollgate, links } = await proxiedWorld(t, {
    workers: 0,
    isDaemonStarted: false,
    settings: { 'broker.confirmMsMax': 15_000 },
  });
  const { books } = tollgate;
  await tollgate.addNode('n1');
  const daemon = await tollgate.startChildDaemon(t);
  const worker = await tollgate.startHandWorker('n1', 1);
  await until(async () => (await tollgate.fleet.list()).length === 1, 'the worker to be known');

  const accounts = await books.holdAccounts();
  const job = tollgate.job();
  await tollgate.send(job);
  await books.lockIsAwaited();
  links.amqp.freeze();
  await accounts.letGo();
  await until(async () => (await books.job(job.id))?.state === 'locked', 'the job to be locked');
  await daemon.kill();
  links.amqp.cut();
  links.amqp.heal();

  await tollgate.startChildDaemon(t);
  const startMs = performance.now();
  const held = await worker.dispatched(job.id);
  t.ok(performance.now() - startMs < 10_000, 'long before its lease runs out');
  await worker.finish(held);
  t.equal((await tollgate.reply(job.id)).state, 'succeeded');
  await tollgate.slotsAreFree();
});
