import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { findOnPath } from './binaries.ts';
import { accepts } from './ports.ts';
import type { Preparation, Workplace } from './types.ts';

const USER = 'tollgate';

/**
 * RabbitMQ of our own, beside any other broker: own node name, own ports, own epmd, everything on loopback, the management
 * HTTP API on, one administrator and no guest. epmd is started here, because one that Erlang starts outlives the broker.
 */
export async function prepareRabbitmq({
  keeper,
  ports,
  binary,
  folder,
  secret,
}: Workplace): Promise<Preparation> {
  const [amqp, management, dist, epmd] = [
    await ports.take(),
    await ports.take(),
    await ports.take(),
    await ports.take(),
  ];
  const file = (name: string) => join(folder, name);
  for (const name of ['data', 'log', 'generated']) mkdirSync(file(name), { mode: 0o700 });
  writeFileSync(file('rabbitmq.conf'), settings(amqp, management, secret), { mode: 0o600 });
  writeFileSync(file('plugins'), '[rabbitmq_management].\n');
  // Files of our own in place of what /etc/rabbitmq may hold.
  writeFileSync(file('env.conf'), '');
  writeFileSync(file('advanced.config'), '[].\n');
  const env = {
    PATH: searchPath(),
    HOME: folder,
    LC_ALL: 'C.UTF-8',
    ERL_EPMD_PORT: String(epmd),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    RABBITMQ_NODENAME: `tollgate-${amqp}@localhost`,
    RABBITMQ_DIST_PORT: String(dist),
    RABBITMQ_CONF_ENV_FILE: file('env.conf'),
    RABBITMQ_CONFIG_FILE: file('rabbitmq.conf'),
    RABBITMQ_ADVANCED_CONFIG_FILE: file('advanced.config'),
    RABBITMQ_ENABLED_PLUGINS_FILE: file('plugins'),
    RABBITMQ_MNESIA_BASE: file('data'),
    RABBITMQ_LOG_BASE: file('log'),
    RABBITMQ_GENERATED_CONFIG_DIR: file('generated'),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
    // The script then becomes the broker instead of waiting for it: one process less, and signals reach it.
    RUNNING_UNDER_SYSTEMD: 'true',
  };
  const epmdFile = findOnPath('epmd');
  if (epmdFile === undefined) throw new Error('epmd is not on PATH; it comes with Erlang');
  const epmdArgs = ['-port', String(epmd), '-address', '127.0.0.1'];
  keeper.spawn({ file: epmdFile, args: epmdArgs, env, cwd: folder }, file('epmd.log'));
  const admin = `http://${USER}:${secret}@127.0.0.1:${management}`;
  return {
    urls: { amqp: `amqp://${USER}:${secret}@127.0.0.1:${amqp}/`, amqpAdmin: admin },
    plan: {
      name: 'rabbitmq',
      command: { file: binary.path, args: [], env, cwd: folder },
      logFile: file('rabbitmq.log'),
      fastSignal: 'SIGTERM',
      isReady: async () => (await accepts(amqp)) && (await hasRunningVhost(management, secret)),
    },
  };
}

function settings(amqp: number, management: number, secret: string): string {
  return `listeners.tcp.1 = 127.0.0.1:${amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = ${management}
default_user = ${USER}
default_pass = ${secret}
disk_free_limit.absolute = 50MB
log.file = false
log.console = true
log.console.level = warning
`;
}

/** The folder of Erlang may be one that our own PATH lacks. */
function searchPath(): string {
  const erlang = findOnPath('erl');
  const path = process.env['PATH'] ?? '';
  return erlang === undefined ? path : `${path}:${dirname(erlang)}:/usr/bin:/bin`;
}

async function hasRunningVhost(management: number, secret: string): Promise<boolean> {
  const authorization = `Basic ${Buffer.from(`${USER}:${secret}`).toString('base64')}`;
  const url = `http://127.0.0.1:${management}/api/vhosts/%2F`;
  const response = await fetch(url, { headers: { authorization }, signal: AbortSignal.timeout(2_000) });
  // As text, because the rest of the answer is of no interest: {"cluster_state": {"<node>": "running"}, …}.
  return response.ok && (await response.text()).includes('"running"');
}
