import { statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Management } from '../../src/broker/management.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { runCli } from '../support/run-cli.ts';
import { isolatedServers } from '../support/servers.ts';

/** Models, nodes and jobs, on real servers with nothing in them. */
const servers = await isolatedServers(t, { postgres: true, redis: true, amqp: true, mongo: true });
const env = {
  TOLLGATE_POSTGRES_ADMIN_URL: servers.postgresAdminUrl,
  TOLLGATE_REDIS_URL: servers.redisUrl,
  TOLLGATE_AMQP_URL: servers.amqpUrl,
  TOLLGATE_AMQP_ADMIN_URL: servers.amqpAdminUrl,
  TOLLGATE_MONGO_URL: servers.mongoUrl,
};
/** Users belong to the whole broker, so the node's name is of this run. */
const node = `n${newUuidV7().slice(-12)}`;
const key = join(t.testdir(), 'node.pem');
const management = new Management({ url: servers.amqpAdminUrl, vhost: servers.vhost, requestMsMax: 5_000 });
t.after(() => management.deleteUser(`n-${node}`));

const tollgate = (...args: string[]) => runCli(args, { env });

async function json(...args: string[]): Promise<unknown> {
  const { stdout, stderr } = await tollgate(...args, '--json');
  return stdout === '' ? stderr : JSON.parse(stdout);
}

t.equal((await tollgate('migrate')).status, 0);

await t.test('a model is added once, with exact prices, and listed', async (t) => {
  const added = await json('model', 'add', 'tiny', '--input-price', '0.5', '--output-price', '1.000001');
  t.match(added, { model: 'tiny', version: 1, input_price_micro: 500_000, output_price_micro: 1_000_001 });
  t.match(await tollgate('model', 'add', 'tiny'), { status: 4, stderr: /^TG_ALREADY_EXISTS/ });
  t.match(await tollgate('model', 'add', 'free'), { status: 0, stdout: /no price yet/ });
  t.match(await json('model', 'list'), [
    { model: 'tiny', timeout_ms_max: 600_000 },
    { model: 'free', input_price_micro: null },
  ]);
  t.match(await tollgate('model', 'list'), { status: 0, stdout: /^tiny +1 +0\.50 +1\.000001 /m });
  t.match(await tollgate('model', 'add', 'x', '--input-price', '1e3'), { status: 2, stderr: /1e3/ });
});

await t.test('a node gets a key of its own, its queues and a user that may read only them', async (t) => {
  const registered = await json(
    'node',
    'register',
    node,
    '--owner',
    'acme',
    '--models',
    'tiny,free',
    '--key',
    key,
  );
  t.match(registered, {
    node,
    models: ['tiny', 'free'],
    key_file: key,
    amqp_url: new RegExp(`^amqp://n-${node}:[0-9a-f]{48}@`),
  });
  t.equal(statSync(key).mode & 0o777, 0o600);
  const queues: string[] = [];
  for await (const queue of management.queues('^node')) queues.push(queue.name);
  t.same(queues.toSorted(), [`node.${node}`, `node.${node}.control`]);
  t.ok(await management.hasUser(`n-${node}`));
});

await t.test(
  'the same node again changes its models and its place and keeps its key and password',
  async (t) => {
    const again = await json(
      'node',
      'register',
      node,
      '--owner',
      'acme',
      '--models',
      'tiny',
      '--key',
      key,
      '--region',
      'eu-west',
      '--vram-gb',
      '24',
      '--active',
    );
    t.match(again, { models: ['tiny'], region: 'eu-west', vram_gb: 24, amqp_url: null });
    t.match(await json('node', 'list'), [
      {
        node,
        owner: 'acme',
        lifecycle: 'active',
        models: ['tiny'],
        region: 'eu-west',
        vram_gb: 24,
        worker: null,
      },
    ]);
    t.match(await tollgate('node', 'list'), {
      stdout: new RegExp(`^${node} +acme +active +open +eu-west +24 GB +away +tiny$`, 'm'),
    });
    const other = await tollgate(
      'node',
      'register',
      node,
      '--owner',
      'other',
      '--models',
      'tiny',
      '--key',
      key,
    );
    t.match(other, { status: 4, stderr: /^TG_ALREADY_EXISTS/ });
    const unknown = await tollgate(
      'node',
      'register',
      node,
      '--owner',
      'acme',
      '--models',
      'none',
      '--key',
      key,
    );
    t.match(unknown, { status: 4, stderr: /^TG_NOT_FOUND/ });
  },
);

await t.test('a job that nobody knows exits 4', async (t) => {
  t.match(await tollgate('job', 'show', newUuidV7()), { status: 4, stderr: /^TG_NOT_FOUND: / });
  t.match(await tollgate('job', 'show', 'not-an-id'), { status: 2, stderr: /UUIDv7/ });
});

await t.test('each server that is away is named, within seconds', async (t) => {
  const nobody = '127.0.0.1:1';
  const cases: [Record<string, string>, string[], RegExp][] = [
    [
      { TOLLGATE_POSTGRES_ADMIN_URL: `postgres://x@${nobody}/x` },
      ['model', 'list'],
      /^TG_STORE_UNAVAILABLE: postgres/,
    ],
    [
      { TOLLGATE_POSTGRES_ADMIN_URL: `postgres://x@${nobody}/x` },
      ['migrate'],
      /^TG_STORE_UNAVAILABLE: postgres/,
    ],
    [{ TOLLGATE_REDIS_URL: `redis://${nobody}/0` }, ['node', 'list'], /^TG_STORE_UNAVAILABLE: redis/],
    [
      { TOLLGATE_MONGO_URL: `mongodb://${nobody}/x` },
      ['job', 'show', newUuidV7()],
      /^TG_STORE_UNAVAILABLE: mongodb/,
    ],
    [
      { TOLLGATE_AMQP_URL: `amqp://x:x@${nobody}/` },
      ['node', 'register', node, '--owner', 'acme', '--models', 'tiny', '--key', key],
      /^TG_STORE_UNAVAILABLE: rabbitmq/,
    ],
    [
      { TOLLGATE_AMQP_URL: `amqp://x:x@${nobody}/` },
      ['worker', '--node', node, '--key', key, '--model', 'tiny=http://127.0.0.1:1/v1'],
      /TG_STORE_UNAVAILABLE: rabbitmq/,
    ],
  ];
  const begunMs = performance.now();
  const soon = { TOLLGATE_CONNECT_TIMEOUT_MS: '1000' };
  const results = await Promise.all(
    cases.map(([away, args]) => runCli(args, { env: { ...env, ...soon, ...away } })),
  );
  for (const [at, [, args, expected]] of cases.entries())
    t.match(results[at], { status: 3, stderr: expected }, args.join(' '));
  t.ok(performance.now() - begunMs < 60_000, 'in bounded time, on a busy machine too');
});

await t.test('a worker says what is wrong with its key before it connects', async (t) => {
  const args = ['worker', '--node', node, '--model', 'tiny=http://127.0.0.1:1/v1'];
  t.match(await tollgate(...args, '--key', '/nowhere.pem'), { status: 2, stderr: /nowhere\.pem/ });
  t.match(await tollgate(...args, '--key', key, '--model', 'tiny'), { status: 2, stderr: /--model/ });
});
