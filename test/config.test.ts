import { join } from 'node:path';
import t from 'tap';
import { nearestName, SETTINGS } from '../src/config-keys.ts';
import { type ConfigSources, describeConfig, loadConfig, systemdFacts } from '../src/config.ts';
import { ConfigError } from '../src/errors.ts';

const KEY = 'a-digest-key-of-thirty-six-characters';

/** Enough to start with. */
const env = {
  TOLLGATE_POSTGRES_URL: 'postgres://tollgate_dispatcher:pg-password@db:5432/tollgate',
  TOLLGATE_REDIS_URL: 'redis://cache:6379/0',
  TOLLGATE_AMQP_URL: 'amqp://coordinator:amqp-password@broker/',
  TOLLGATE_MONGO_URL: 'mongodb://one:27017,two:27017/tollgate?replicaSet=rs0',
  TOLLGATE_DIGEST_KEY: KEY,
};

function faultsOf(sources: ConfigSources): readonly string[] {
  try {
    loadConfig(sources);
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
  return [];
}

await t.test('five names are enough, everything else has a default', async (t) => {
  const config = loadConfig({ env });
  t.equal(config.line.batchJobsMax, 512);
  t.equal(config.servers.mongoUrl, env.TOLLGATE_MONGO_URL);
  t.equal(config.servers.postgresSettlerUrl, null);
  t.equal(config.secrets.digestKey, KEY);
});

await t.test(
  'flags beat the environment, which beats credentials, which beat the file, which beats the defaults',
  async (t) => {
    const folder = t.testdir({
      credentials: { line_prefetch_min: '33\n', fleet_heartbeat_ms: '4000', http_port: '3' },
      'tollgate.toml':
        '[line]\nprefetchMin = 22\n[fleet]\nheartbeatMs = 3000\n[http]\nport = 2\n[log]\nlevel = "warn"\n',
    });
    const config = loadConfig({
      flags: { 'http.port': '5' },
      env: { ...env, TOLLGATE_HTTP_PORT: '4', TOLLGATE_LINE_PREFETCH_MIN: '44' },
      credentialsDirectory: join(folder, 'credentials'),
      file: join(folder, 'tollgate.toml'),
    });
    t.equal(config.http.port, 5, 'flag');
    t.equal(config.line.prefetchMin, 44, 'environment');
    t.equal(config.fleet.heartbeatMs, 4000, 'credential');
    t.equal(config.log.level, 'warn', 'file');
    t.equal(config.line.prefetchMax, 1_500, 'default');
    const brought = loadConfig({
      env: { ...env, TOLLGATE_HTTP_PORT: '4' },
      fallbacks: { 'http.port': '0', 'log.level': 'debug' },
    });
    t.match(
      brought,
      { http: { port: 4 }, log: { level: 'debug' } },
      'what a command brings along comes last but one',
    );
  },
);

await t.test('the environment names the file and the credentials', async (t) => {
  const folder = t.testdir({ 'c.toml': '[log]\nlevel = "error"\n', cred: { digest_key: `${KEY}-2` } });
  const { TOLLGATE_DIGEST_KEY: _left, ...rest } = env;
  const config = loadConfig({
    env: { ...rest, TOLLGATE_CONFIG: join(folder, 'c.toml'), CREDENTIALS_DIRECTORY: join(folder, 'cred') },
  });
  t.equal(config.log.level, 'error');
  t.equal(config.secrets.digestKey, `${KEY}-2`);
});

await t.test('every setting has a long name, and servers and secrets a short one', async (t) => {
  for (const { section, envNames } of SETTINGS) {
    t.match(envNames.at(-1), `TOLLGATE_${section.toUpperCase()}_`);
    t.equal(envNames.length, section === 'servers' || section === 'secrets' ? 2 : 1);
  }
  const long = loadConfig({
    env: { ...env, TOLLGATE_REDIS_URL: '', TOLLGATE_SERVERS_REDIS_URL: 'redis://long/1' },
  });
  t.equal(long.servers.redisUrl, 'redis://long/1', 'an empty value counts as absent');
});

await t.test('all faults are told at once, each with its name and its source', async (t) => {
  const folder = t.testdir({
    'tollgate.toml':
      'speed = 3\n[line]\nprefetchMax = "many"\nprefetchmin = 3\n[fleat]\ncells = 2\n[servers]\nredisUrl = 6379\n',
  });
  const file = join(folder, 'tollgate.toml');
  const faults = faultsOf({
    flags: { 'line.batchJobsMx': '3', 'ledger.connectionsMax': '0', 'log.level': 'loud' },
    env: {
      TOLLGATE_POSTGRES_URL: 'http://db/tollgate',
      TOLLGATE_MONGO_URL: 'mongodb://one:27017',
      TOLLGATE_DIGEST_KEY: 'short-key',
      TOLLGATE_FLEET_HEARTBEAT: '3',
      TOLLGATE_AMQP_ULR: 'amqp://x/',
      TOLLGATE_STACK_FOLDER: 'not ours to judge',
    },
    file,
  });
  const expected = [
    /^line\.batchJobsMx: no such setting \(command line\), did you mean line\.batchJobsMax\?$/,
    /^TOLLGATE_FLEET_HEARTBEAT: no such setting \(environment\), did you mean TOLLGATE_FLEET_HEARTBEAT_MS\?$/,
    /^TOLLGATE_AMQP_ULR: no such setting \(environment\), did you mean TOLLGATE_AMQP_URL\?$/,
    /^speed: no such setting \(table\)$/,
    /^line\.prefetchmin: no such setting \(file\), did you mean line\.prefetchMin\?$/,
    /^fleat: no such setting \(table\), did you mean fleet\?$/,
    /^servers\.postgresUrl: must look like postgres:.* \(environment TOLLGATE_POSTGRES_URL\)$/,
    /^servers\.redisUrl: must be string \(file .*tollgate\.toml\)$/,
    /^servers\.amqpUrl: missing, set TOLLGATE_AMQP_URL$/,
    /^servers\.mongoUrl: must look like mongodb:.*\/database/,
    /^secrets\.digestKey: .*32 characters \(environment TOLLGATE_DIGEST_KEY\)$/,
    /^line\.prefetchMax: must be integer, got "many" \(file .*\)$/,
    /^ledger\.connectionsMax: must be >= 1, got 0 \(command line\)$/,
    /^log\.level: must be one of debug, info, warn, error, silent, got "loud" \(command line\)$/,
  ];
  for (const pattern of expected)
    t.ok(
      faults.some((fault) => pattern.test(fault)),
      String(pattern),
    );
  t.equal(faults.length, expected.length, 'and nothing else');
  t.notMatch(faults.join('\n'), 'short-key');
});

await t.test('settings that contradict each other are named together', async (t) => {
  const flags = {
    'line.prefetchMin': '400',
    'line.prefetchMax': '100',
    'line.pauseAfterMs': '5000',
    'line.holdMsMax': '4000',
    'fleet.heartbeatMs': '9000',
    'fleet.lostAfterMs': '10000',
    'fleet.leaseTtlMs': '9000',
    'ledger.lockWaitMsMax': '2000',
    'ledger.startWindowMs': '4000',
    'broker.confirmMsMax': '4000',
    'sweeps.everyMs': '4000',
  };
  const faults = faultsOf({ env, flags });
  t.match(faults, [
    /^line\.prefetchMin, line\.prefetchMax: /,
    /^line\.pauseAfterMs, line\.holdMsMax: /,
    /^fleet\.heartbeatMs, fleet\.lostAfterMs: /,
    /^fleet\.heartbeatMs, fleet\.leaseTtlMs: /,
    /^ledger\.startWindowMs, fleet\.leaseTtlMs: /,
    /^sweeps\.everyMs, fleet\.lostAfterMs: /,
    /^ledger\.lockWaitMsMax, ledger\.statementMsMax: /,
    /^ledger\.statementMsMax, ledger\.startWindowMs: /,
    /^broker\.confirmMsMax, ledger\.startWindowMs: /,
  ]);
  t.same(
    faultsOf({ env, flags: { 'line.prefetchMin': 'x', 'line.prefetchMax': '16' } }).length,
    1,
    'a setting that is wrong by itself is not judged twice',
  );
});

await t.test('a file or folder that cannot be read is a fault, and its content is not shown', async (t) => {
  const folder = t.testdir({
    'bad.toml': '[servers]\nredisUrl = "redis://:hunter2@x/0\n',
    'list.toml': 'line = [1]\n',
  });
  const [bad] = faultsOf({ env, file: join(folder, 'bad.toml') });
  t.match(bad, /^file: cannot read .*bad\.toml \(not TOML at line 2\)$/);
  t.notMatch(bad, 'hunter2');
  t.match(faultsOf({ env, file: join(folder, 'none.toml') }), [/^file: .*\(ENOENT\)$/]);
  t.match(faultsOf({ env, credentialsDirectory: join(folder, 'none') }), [/^credentials: .*\(ENOENT\)$/]);
  t.match(faultsOf({ env, file: join(folder, 'list.toml') }), [/^line: must be a table/]);
});

await t.test('a misspelt credential is a fault, a foreign one is not', async (t) => {
  const folder = t.testdir({ digest_kye: KEY, backup_passphrase: 'x' });
  t.match(faultsOf({ env, credentialsDirectory: folder }), [/^digest_kye: .*did you mean digest_key\?$/]);
});

await t.test('the facts of systemd are those of this process', async (t) => {
  t.equal(systemdFacts({}), null);
  t.equal(systemdFacts({ WATCHDOG_USEC: '30000000' }), null, 'nobody listens');
  const socket = { NOTIFY_SOCKET: '/run/systemd/notify' };
  t.same(systemdFacts(socket), { watchdogMs: null });
  t.same(systemdFacts({ ...socket, WATCHDOG_USEC: '30000000' }), { watchdogMs: 30_000 });
  t.same(systemdFacts({ ...socket, WATCHDOG_USEC: '30000000', WATCHDOG_PID: '7' }, 7), {
    watchdogMs: 30_000,
  });
  t.same(systemdFacts({ ...socket, WATCHDOG_USEC: '30000000', WATCHDOG_PID: '7' }, 8), { watchdogMs: null });
});

await t.test('a caller asks only for what it uses', async (t) => {
  const config = loadConfig({ env: { TOLLGATE_AMQP_URL: 'amqp://h/' }, needs: ['servers.amqpUrl'] });
  t.equal(config.servers.postgresUrl, '');
  t.equal(config.secrets.digestKey, '');
  t.match(faultsOf({ env, needs: ['servers.postgresAdminUrl', 'servers.redisUrl'] }), [
    'servers.postgresAdminUrl: missing, set TOLLGATE_POSTGRES_ADMIN_URL',
  ]);
});

await t.test('what is shown has no secret in it', async (t) => {
  const shown = JSON.stringify(describeConfig(loadConfig({ env })));
  for (const secret of [KEY, 'pg-password', 'amqp-password']) t.notMatch(shown, secret);
  t.match(shown, '"digestKey":"[set]"');
  t.match(shown, 'postgres://tollgate_dispatcher:***@db:5432/tollgate');
  const none = describeConfig(loadConfig({ env: {}, needs: [] }));
  t.equal(none['secrets']?.['digestKey'], '[not set]');
});

await t.test('the nearest name is offered only if it is near', async (t) => {
  t.equal(nearestName('prefetchMx', ['prefetchMin', 'prefetchMax']), 'prefetchMax');
  t.equal(nearestName('colour', ['prefetchMin', 'prefetchMax']), undefined);
});
