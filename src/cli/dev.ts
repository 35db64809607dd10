import type { Command } from 'commander';
import type { Config } from '../config-schema.ts';
import type { Daemon } from '../main.ts';
import type { Stack } from '../stack/stack.ts';
import { command, type Invocation, withAction } from './command.ts';
import { usageFault } from './failure.ts';

/** Name of the account, the namespace's owner and the publisher that `tollgate dev` makes. */
const DEV = 'dev';
/** What its account begins with, in micro-credits: 1,000 credits. */
const DEV_CREDIT_MICRO = 1_000_000_000n;

/** `tollgate dev`: the servers and one coordinator until Ctrl-C. */
export function devCommand(): Command {
  const dev = command({
    name: 'dev',
    summary: 'start the four servers and one coordinator, print their URLs, stop all on Ctrl-C',
    examples: ['tollgate dev', 'tollgate dev --json urls.json'],
  });
  return withAction(dev, async (invocation) => {
    const [{ createLog }, { runService }] = await Promise.all([
      import('../ops/log.ts'),
      import('./run-service.ts'),
    ]);
    // Standard output is for the URLs.
    const log = createLog({ level: 'warn' }, 2);
    await runService((signal) => startDev(invocation, signal), log);
  });
}

/** Servers first, coordinator last; a failure on the way, or `signal`, ends what was started. */
async function startDev(
  invocation: Invocation<object>,
  signal: AbortSignal,
): Promise<{ stop(): Promise<void> }> {
  const { output } = invocation;
  const { startStack } = await import('../stack/stack.ts');
  const stack = await startStack({ onProgress: (line) => output.progress(line), signal });
  try {
    const config = await prepare(invocation, stack);
    signal.throwIfAborted();
    const [{ runDaemon }, { createLog }] = await Promise.all([import('../main.ts'), import('../ops/log.ts')]);
    const daemon = await runDaemon(config, { signal, log: createLog({ level: 'warn' }, 2) });
    await announce(invocation, config, daemon);
    return {
      stop: async () => {
        try {
          await daemon.stop();
        } finally {
          await stack.stop();
        }
      },
    };
  } catch (error) {
    await stack.stop();
    throw error;
  }
}

/** Migrates, and gives the login roles a password where the server is our own. Somebody else's roles are left alone. */
async function prepare({ loadConfig, output }: Invocation<object>, stack: Stack): Promise<Config> {
  const { urls } = stack;
  const [{ randomBytes }, { migrate }, { createLog }] = await Promise.all([
    import('node:crypto'),
    import('../postgres/migrate.ts'),
    import('../ops/log.ts'),
  ]);
  const password = randomBytes(16).toString('hex');
  const isOurs = stack.started.includes('postgres');
  const dispatcher = new URL(urls.postgresAdmin);
  dispatcher.username = 'tollgate_dispatcher';
  dispatcher.password = password;
  const config = await loadConfig(undefined, {
    // Stronger than a URL that is left in the environment from another run.
    flags: isOurs ? { 'servers.postgresUrl': dispatcher.href } : {},
    fallbacks: {
      'servers.postgresAdminUrl': urls.postgresAdmin,
      'servers.redisUrl': urls.redis,
      'servers.amqpUrl': urls.amqp,
      'servers.amqpAdminUrl': urls.amqpAdmin,
      'servers.mongoUrl': urls.mongo,
      'secrets.digestKey': randomBytes(32).toString('hex'),
      'http.port': '0',
    },
  });
  const log = createLog({ level: 'silent' });
  const { applied } = await migrate({ url: urls.postgresAdmin, rolePassword: isOurs ? password : null }, log);
  output.progress(
    applied.length === 0 ? 'the schema is up to date' : `the schema is made (${applied.length} migrations)`,
  );
  return config;
}

/** Makes a publisher with credit, so that a first job needs no other command, and prints where everything is. */
async function announce({ output }: Invocation<object>, config: Config, daemon: Daemon): Promise<void> {
  const { createAccount } = await import('./new-account.ts');
  const { user, statement } = await createAccount(config, {
    account: DEV,
    namespace: 'default',
    publisher: DEV,
    amountMicro: DEV_CREDIT_MICRO,
    isExisting: true,
    isNewPassword: true,
  });
  const { servers } = config;
  const urls = {
    postgres: servers.postgresUrl,
    postgres_admin: servers.postgresAdminUrl ?? usageFault('postgres', 'has no administrator'),
    redis: servers.redisUrl,
    amqp: servers.amqpUrl,
    amqp_admin: servers.amqpAdminUrl ?? '',
    amqp_client: user.url ?? '',
    mongo: servers.mongoUrl,
    http: daemon.httpUrl,
  };
  const { http, ...rest } = urls;
  output.result(
    urls,
    [
      'Tollgate is running. For another terminal:',
      '',
      ...Object.entries(rest).map(([name, url]) => `  export TOLLGATE_${name.toUpperCase()}_URL='${url}'`),
      `  export TOLLGATE_DIGEST_KEY='${config.secrets.digestKey}'`,
      '',
      `Account ${statement.name} has credit and may be spent by amqp_client. Metrics and health: ${http}`,
      'Ctrl-C stops everything that was started here.',
    ].join('\n'),
  );
}
