import t from 'tap';
import { Management } from '../../src/broker/management.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { isolatedServers } from '../support/servers.ts';
import { type CliResult, runCli } from '../support/run-cli.ts';

const servers = await isolatedServers(t, { postgres: true, amqp: true });
const env = {
  TOLLGATE_POSTGRES_ADMIN_URL: servers.postgresAdminUrl,
  TOLLGATE_AMQP_URL: servers.amqpUrl,
  TOLLGATE_AMQP_ADMIN_URL: servers.amqpAdminUrl,
};
/** Users belong to the whole broker, so their names are of this run. */
const own = servers.keyPrefix
  .slice(-12)
  .toLowerCase()
  .replaceAll(/[^a-z0-9]/g, 'x');
const management = new Management({ url: servers.amqpAdminUrl, vhost: servers.vhost, requestMsMax: 5_000 });
t.after(async () => {
  for (const name of [own, `${own}-app`]) await management.deleteUser(`p-${name}`);
});

const tollgate = (...args: string[]): Promise<CliResult> => runCli(args, { env });

await t.test('before the schema is there, it is said what to do', async (t) => {
  const result = await tollgate('account', 'show', 'acme');
  t.match(result, { status: 1, stderr: /^TG_SCHEMA_MISMATCH: .*\n {2}→ run tollgate migrate/ });
});

await t.test('migrate makes the schema once', async (t) => {
  const first = await tollgate('migrate', '--json');
  t.equal(first.status, 0, first.stderr);
  t.match(JSON.parse(first.stdout), { applied: [/^0001_/], version: Number });
  t.match(await tollgate('migrate'), { status: 0, stdout: /^nothing to apply/ });
});

await t.test('an account comes with a namespace, a publisher that may log in, and credit', async (t) => {
  const made = await tollgate('account', 'create', own, '--credits', '12.5', '--json');
  t.equal(made.status, 0, made.stderr);
  const data: Record<string, unknown> = JSON.parse(made.stdout);
  t.match(data, {
    account: own,
    namespaces: [`${own}/default`],
    publisher: own,
    amqp_user: `p-${own}`,
    amqp_url: new RegExp(`^amqp://p-${own}:[0-9a-f]{48}@`),
    free_micro: 12_500_000,
    rabbitmqctl: [],
  });
  t.ok(await management.hasUser(`p-${own}`));
});

await t.test('a second time is refused, unless it may add what is missing', async (t) => {
  const again = await tollgate('account', 'create', own);
  t.match(again, { status: 4, stdout: '', stderr: /^TG_ALREADY_EXISTS: .*--existing/ });
  const more = await tollgate(
    'account',
    'create',
    own,
    '--existing',
    '--namespace',
    'prod',
    '--publisher',
    `${own}-app`,
  );
  t.match(more, { status: 0, stdout: new RegExp(`${own}/default, ${own}/prod`) });
  const kept = await tollgate('account', 'create', own, '--existing');
  t.match(kept, { status: 0, stdout: /keeps its password/ });
});

await t.test('credit is added once per id, exactly', async (t) => {
  const id = newUuidV7();
  const first = await tollgate('account', 'top-up', own, '--credits', '0.000001', '--id', id, '--json');
  t.match(JSON.parse(first.stdout), { is_new: true, amount_micro: 1, free_micro: 12_500_001, id });
  const second = await tollgate('account', 'top-up', own, '--credits', '0.000001', '--id', id, '--json');
  t.match(JSON.parse(second.stdout), { is_new: false, free_micro: 12_500_001 });
  t.match(await tollgate('account', 'top-up', own, '--credits', '7', '--id', id), { status: 4 });
  t.match(await tollgate('account', 'limit', own, '--jobs-per-second', '50', '--queued', '20', '--json'), {
    status: 0,
    stdout: /"jobs_per_second": ?50,[^}]*"open_locks": ?null,[^}]*"queued": ?20/,
  });
  t.match(await tollgate('account', 'limit', own, '--jobs-per-second', 'default', '--burst', '9'), {
    status: 0,
    stdout: /^limits {5}9 at once, 20 waiting; else the configuration's$/m,
  });
  t.match(await tollgate('account', 'limit', own), { status: 2, stderr: /^TG_CLI_USAGE/ });
  t.match(await tollgate('account', 'limit', own, '--burst', '0'), { status: 2, stderr: /^TG_CLI_USAGE/ });
  t.match(await tollgate('account', 'limit', 'nobody', '--burst', '1'), { status: 4 });
  t.match(await tollgate('account', 'show', own), { status: 0, stdout: /^free {7}12\.500001 credits$/m });
});

await t.test('amounts that are no plain decimals are refused', async (t) => {
  for (const credits of ['0', '-1', '1e3', '1,5', '0.0000001', 'lots'])
    t.match(
      await tollgate('account', 'top-up', own, `--credits=${credits}`),
      { status: 2, stderr: /--credits/ },
      credits,
    );
});

await t.test('an unknown account exits 4, and so does adding to one', async (t) => {
  t.match(await tollgate('account', 'show', 'nobody'), { status: 4, stderr: /^TG_NOT_FOUND/ });
  t.match(await tollgate('account', 'top-up', 'nobody', '--credits', '1'), { status: 4 });
});

await t.test('without the management API the lines to type are printed', async (t) => {
  const { TOLLGATE_AMQP_ADMIN_URL: _absent, ...rest } = env;
  const made = await runCli(['account', 'create', `${own}-typed`], { env: rest });
  t.match(made, { status: 0, stdout: new RegExp(`rabbitmqctl add_user 'p-${own}-typed'`) });
  t.notOk(await management.hasUser(`p-${own}-typed`));
});

await t.test('a broker that is away leaves no account behind', async (t) => {
  const away = { ...env, TOLLGATE_AMQP_ADMIN_URL: 'http://guest:guest@127.0.0.1:1' };
  const result = await runCli(['account', 'create', `${own}-half`], { env: away });
  t.match(result, { status: 3, stderr: /^TG_STORE_UNAVAILABLE: rabbitmq/ });
  t.match(await tollgate('account', 'show', `${own}-half`), { status: 4 });
});
