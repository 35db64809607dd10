import t from 'tap';
import { ownServers } from '../support/own-servers.ts';
import { until } from '../support/until.ts';
import { world } from '../support/world.ts';

// A loaded machine starts servers slowly; the runner's own limit is for one that hangs.
t.setTimeout(240_000);

/** Settings under which an attempt that nobody begins is noticed in a few seconds. */
const IMPATIENT = {
  'ledger.startWindowMs': 1_000,
  'ledger.statementMsMax': 400,
  'ledger.lockWaitMsMax': 300,
  'broker.confirmMsMax': 500,
  'fleet.heartbeatMs': 500,
  'fleet.lostAfterMs': 2_000,
};

await t.test('a dispatch that goes with the broker costs a job no try, and no node a strike', async (t) => {
  const { stack, servers } = await ownServers(t);
  const tollgate = await world(t, { servers, workers: 0, settings: IMPATIENT });
  await tollgate.addNode('n1');
  const idle = await tollgate.startHandWorker('n1', 4, ['small'], { isReading: false });
  const job = tollgate.job({ limits: { ...tollgate.job().limits, attempts_max: 1, timeout_ms: 60_000 } });
  await tollgate.send(job);
  await until(async () => (await tollgate.queue('node.n1')).messages === 1, 'the dispatch');
  await until(async () => (await tollgate.metric('tollgate_held_bytes')) === 0, 'its acknowledgement');

  await stack.server('rabbitmq').stop('fast');
  await stack.server('rabbitmq').start();
  await tollgate.addNode('n2');
  const busy = await tollgate.startHandWorker('n2', 4);
  const held = await busy.dispatched(job.id, { timeoutMs: 60_000 });
  await busy.finish(held);
  await until(() => tollgate.client.broker.isUp, 'the client to be back');
  t.match(await tollgate.reply(job.id), { state: 'succeeded' }, 'though the job has one try only');
  t.match(await tollgate.books.job(job.id), { node: 'n2', attempt: 2, uncounted: 1 });
  t.same(await tollgate.books.transfersOf(job.id), ['lock', 'capture']);
  t.match(await tollgate.books.sql('select code from jobs.attempts where job_id = $1', [job.id]), [
    { code: 'TG_DISPATCH_LOST' },
  ]);
  t.same(await tollgate.books.sql('select from network.strikes'), [], 'nobody is blamed');
  t.equal((await tollgate.queue('node.n1')).messages, 0);
  t.same(idle.held, []);
});
