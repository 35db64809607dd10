import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { CliProcess } from '../support/cli-process.ts';
import { NotifyLog } from '../support/notify-log.ts';
import { proxiedWorld } from '../support/proxied-world.ts';
import type { Teardown } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { world } from '../support/world.ts';

/** Settings that are a secret or hold a password: as a service they come as credentials, one file each. */
const CREDENTIALS: Readonly<Record<string, string>> = {
  'servers.postgresUrl': 'postgres_url',
  'servers.postgresSettlerUrl': 'postgres_settler_url',
  'servers.redisUrl': 'redis_url',
  'servers.amqpUrl': 'amqp_url',
  'servers.mongoUrl': 'mongo_url',
  'secrets.digestKey': 'digest_key',
};

/** `tollgate serve` as systemd would start it: `Type=notify`, a watchdog of 600 ms, secrets by `LoadCredential=`. */
function startService(t: Teardown & { testdir(): string }, flags: Readonly<Record<string, string>>) {
  const folder = t.testdir();
  const notify = new NotifyLog(folder);
  const credentials = join(folder, 'credentials');
  mkdirSync(credentials);
  const args = ['serve'];
  for (const [path, value] of Object.entries({ ...flags, 'log.level': 'info' })) {
    const name = CREDENTIALS[path];
    if (name === undefined) args.push('--set', `${path}=${value}`);
    else writeFileSync(join(credentials, name), `${value}\n`);
  }
  const serve = CliProcess.start(t, args, {
    PATH: `${notify.folder}:${process.env['PATH']}`,
    NOTIFY_SOCKET: join(folder, 'nobody-listens'),
    WATCHDOG_USEC: '600000',
    CREDENTIALS_DIRECTORY: credentials,
  });
  const isFedOn = async () => {
    const fed = notify.count('WATCHDOG=1');
    await until(() => notify.count('WATCHDOG=1') > fed + 2, 'the watchdog to be fed on');
  };
  return { serve, notify, isFedOn };
}

await t.test(
  'as a service it says what it waits for, that it is ready, that it lives, and that it stops',
  async (t) => {
    const { tollgate, links } = await proxiedWorld(t, { workers: 0, isDaemonStarted: false });
    links.redis.cut();
    const { serve, notify, isFedOn } = startService(t, tollgate.flags);
    await until(() => notify.count('STATUS=waits for redis (not connected)') > 0, 'it to wait', {
      timeoutMs: 30_000,
    });
    t.equal(notify.count('READY=1'), 0, 'not ready without Redis');
    t.ok(notify.count('EXTEND_TIMEOUT_USEC=') > 0, 'but asking for time');

    links.redis.heal();
    await until(() => notify.count('READY=1') > 0, 'it to be ready', { timeoutMs: 20_000 });
    await isFedOn();
    t.match(notify.calls.at(-1), 'STATUS=takes work');

    for (const name of ['redis', 'postgres', 'amqp'] as const) {
      await t.test(`${name} that falls silent is named, and the watchdog is fed on`, async (t) => {
        const waits = 'STATUS=waits for';
        const before = notify.count(waits);
        links[name].cut();
        await until(() => notify.count(waits) > before, 'it to say so', { timeoutMs: 20_000 });
        await isFedOn();
        t.equal(notify.count('stuck'), 0);
        links[name].heal();
        await until(() => notify.calls.at(-1)?.includes('STATUS=takes work'), 'it to take work again', {
          timeoutMs: 20_000,
        });
      });
    }

    serve.signal('SIGTERM');
    t.equal(await serve.ended, 0, serve.stderr);
    const [stopping] = notify.calls.filter((call) => call.includes('STOPPING=1'));
    t.match(stopping, /STATUS=draining/);
    t.match(stopping, /EXTEND_TIMEOUT_USEC=\d{8}/, 'as long as the drain may take');
    t.notMatch(serve.stdout, tollgate.flags['secrets.digestKey'], 'no secret is in the log');
  },
);

await t.test(
  'a second signal ends a drain at once with status 1, and the log says what was left',
  async (t) => {
    const tollgate = await world(t, { workers: 0, isDaemonStarted: false });
    await tollgate.addNode('n1');
    const { serve, notify } = startService(t, tollgate.flags);
    await until(() => notify.count('READY=1') > 0, 'it to be ready', { timeoutMs: 30_000 });
    await tollgate.startHandWorker('n1', 2);
    const accounts = await tollgate.books.holdAccounts();
    await tollgate.client.send(tollgate.job());
    await tollgate.books.lockIsAwaited();

    serve.signal('SIGTERM');
    await until(() => notify.count('STOPPING=1') > 0, 'it to drain');
    await until(() => notify.calls.at(-1)?.includes('WATCHDOG=1 STATUS=draining'), 'the drain to be fed');
    serve.signal('SIGTERM');
    t.equal(await serve.ended, 1);
    await accounts.letGo();
    const last = JSON.parse(serve.stdout.trim().split('\n').at(-1) ?? '{}');
    t.match(last, { msg: /second signal/, jobsInFlight: 1, services: ['job line'] });
  },
);
