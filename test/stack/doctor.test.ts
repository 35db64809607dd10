import t from 'tap';
import { SERVER_NAMES } from '../../src/stack/binaries.ts';
import { inspectMachine } from '../../src/stack/doctor.ts';
import { reservePorts } from '../../src/stack/ports.ts';

await t.test(
  'each of the four servers is reported, found with its version or missing with a line to type',
  async (t) => {
    const report = await inspectMachine({});
    t.same(
      report.servers.map(({ name }) => name),
      SERVER_NAMES,
    );
    for (const { state, version, where, advice } of report.servers) {
      if (state === 'found')
        t.match({ version, where, advice }, { version: /^\d+\.\d+/, where: /^\//, advice: null });
      else t.match(advice, /PATH|apt-get install/);
    }
    t.equal(
      report.isReady,
      report.servers.every(({ state }) => state === 'found'),
    );
  },
);

await t.test('a given server that nobody answers at is said, without its password', async (t) => {
  const block = await reservePorts();
  t.teardown(() => block.close());
  const port = await block.take();
  const environment = { TOLLGATE_MONGO_URL: `mongodb://me:hidden@127.0.0.1:${port},127.0.0.2:${port}/x` };
  const report = await inspectMachine(environment);
  t.match(report.servers, [{}, {}, {}, { state: 'given', where: `127.0.0.1:${port}`, isReachable: false }]);
  t.match(report.servers[3]?.advice, `nothing answers at 127.0.0.1:${port}`);
  t.equal(report.isReady, false);
  t.notMatch(JSON.stringify(report), 'hidden');
});

await t.test('half of a given RabbitMQ is said', async (t) => {
  const report = await inspectMachine({ TOLLGATE_AMQP_URL: 'amqp://127.0.0.1:1/' });
  t.match(report.servers[2], { state: 'missing', advice: /set TOLLGATE_AMQP_ADMIN_URL too/ });
});
