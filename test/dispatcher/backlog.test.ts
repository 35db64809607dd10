import t from 'tap';
import { jobQueue } from '../../src/contracts/names.ts';
import { until } from '../support/until.ts';
import { proxiedWorld } from '../support/proxied-world.ts';

await t.test(
  'what waits in RabbitMQ is counted per pool and queue, and not while RabbitMQ is away',
  async (t) => {
    const { tollgate, links } = await proxiedWorld(t, {
      workers: 0,
      settings: { 'service.countEveryMs': 100, 'service.lookEveryMs': 100 },
    });
    const waiting = (priority: string) => tollgate.metric('tollgate_pool_jobs', { pool: 'small', priority });
    await until(async () => (await waiting('batch')) === 0, 'the first count');
    for (let n = 0; n < 3; n++) await tollgate.send(tollgate.job());
    await until(async () => (await waiting('interactive')) === 3, 'three jobs to be seen');
    t.equal((await tollgate.queue(jobQueue('small', 'interactive'))).messages, 3);
    t.equal(await waiting('batch'), 0);
    t.equal(await tollgate.metric('tollgate_queue_messages', { queue: 'dead' }), 0);

    const shown = async () => await (await fetch(`${tollgate.daemon?.httpUrl}/metrics`)).text();
    links.amqp.cut();
    await until(async () => !/^tollgate_pool_jobs\{/m.test(await shown()), 'the numbers to go');
    t.match(await shown(), /^tollgate_ready 0$/m);
    links.amqp.heal();
    await until(async () => (await waiting('interactive')) === 3, 'them to be back', { timeoutMs: 20_000 });
    await until(async () => /^tollgate_ready 1$/m.test(await shown()), 'it to be ready again');
  },
);
