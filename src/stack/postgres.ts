import { execFileSync } from 'node:child_process';
import { appendFileSync, chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Client } from 'pg';
import type { Preparation, Workplace } from './types.ts';

/**
 * PostgreSQL of our own: fresh data folder, SCRAM, TCP on loopback only (no socket file: its path has a length limit).
 * Durable as in production, so that what is measured here means something. Under root it runs as user `postgres`, or `nobody`.
 */
export async function preparePostgres({
  keeper,
  ports,
  binary,
  folder,
  secret,
}: Workplace): Promise<Preparation> {
  const port = await ports.take();
  const data = join(folder, 'data');
  const passwordFile = join(folder, 'password');
  const logFile = join(folder, 'postgres.log');
  const user = process.getuid?.() === 0 ? ordinaryUser() : undefined;
  writeFileSync(passwordFile, secret, { mode: 0o600 });
  mkdirSync(data, { mode: 0o700 });
  if (user) for (const path of [folder, data, passwordFile]) chownSync(path, user.uid, user.gid);
  const env = { PATH: process.env['PATH'] ?? '', LC_ALL: 'C', TZ: 'UTC' };
  const common = { env, cwd: folder, ...(user && { user }) };
  const initdb = join(dirname(binary.path), 'initdb');
  const auth = ['--auth=scram-sha-256', `--pwfile=${passwordFile}`];
  const args = ['-D', data, '-U', 'postgres', ...auth, '--encoding=UTF8', '--no-locale', '--no-sync'];
  await keeper.run({ ...common, file: initdb, args }, join(folder, 'initdb.log'));
  appendFileSync(join(data, 'postgresql.conf'), settings(port));
  const url = `postgres://postgres:${secret}@127.0.0.1:${port}/postgres`;
  return {
    urls: { postgresAdmin: url },
    plan: {
      name: 'postgres',
      command: { ...common, file: binary.path, args: ['-D', data], lastSignal: 'SIGQUIT' },
      logFile,
      fastSignal: 'SIGINT',
      isReady: () => answersQuery(url),
    },
  };
}

function settings(port: number): string {
  return `
listen_addresses = '127.0.0.1'
port = ${port}
unix_socket_directories = ''
max_connections = 300
shared_buffers = '256MB'
fsync = on
synchronous_commit = on
# The audit proves by commit timestamps that no dispatch left before its lock.
track_commit_timestamp = on
`;
}

async function answersQuery(url: string): Promise<boolean> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  // Without a listener a connection cut while starting would end our process.
  client.on('error', () => {});
  try {
    await client.connect();
    await client.query('select 1');
    return true;
  } finally {
    await client.end().catch(() => {});
  }
}

function ordinaryUser(): { uid: number; gid: number } {
  for (const name of ['postgres', 'nobody']) {
    try {
      const ask = (option: string) =>
        Number(execFileSync('id', [option, name], { stdio: ['ignore', 'pipe', 'ignore'] }));
      return { uid: ask('-u'), gid: ask('-g') };
    } catch {
      // No such user; the next one.
    }
  }
  throw new Error(
    'PostgreSQL refuses to run as root, and there is neither a user postgres nor a user nobody',
  );
}
