import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MongoClient } from 'mongodb';
import { accepts } from './ports.ts';
import type { Preparation, Workplace } from './types.ts';

const NAME = 'tollgate';

/** mongod of our own as a replica set of one, which has majority writes, transactions and change streams; with a password. */
export async function prepareMongodb({ ports, binary, folder, secret }: Workplace): Promise<Preparation> {
  const port = await ports.take();
  const data = join(folder, 'data');
  const keyFile = join(folder, 'key');
  mkdirSync(data, { mode: 0o700 });
  writeFileSync(keyFile, secret, { mode: 0o600 });
  const network = ['--port', String(port), '--bind_ip', '127.0.0.1', '--nounixsocket', '--keyFile', keyFile];
  const storage = [
    '--dbpath',
    data,
    '--replSet',
    NAME,
    '--oplogSize',
    '512',
    '--wiredTigerCacheSizeGB',
    '0.5',
  ];
  const quiet = ['--quiet', '--setParameter', 'diagnosticDataCollectionEnabled=false'];
  const env = { PATH: process.env['PATH'] ?? '', HOME: folder, LC_ALL: 'C.UTF-8' };
  return {
    urls: {
      mongo: `mongodb://${NAME}:${secret}@127.0.0.1:${port}/${NAME}?replicaSet=${NAME}&authSource=admin`,
    },
    plan: {
      name: 'mongodb',
      command: { file: binary.path, args: [...network, ...storage, ...quiet], env, cwd: folder },
      logFile: join(folder, 'mongod.log'),
      fastSignal: 'SIGTERM',
      isReady: async () => (await accepts(port)) && (await isPrimary(port, secret)),
    },
  };
}

/** True once the set has its primary and its user; a fresh server is given both on the way. */
async function isPrimary(port: number, secret: string): Promise<boolean> {
  const client = new MongoClient(`mongodb://127.0.0.1:${port}/?directConnection=true`, {
    serverSelectionTimeoutMS: 5_000,
  });
  try {
    const admin = client.db('admin');
    const hello = await admin.command({ hello: 1 });
    if (hello['setName'] === undefined) {
      const members = [{ _id: 0, host: `127.0.0.1:${port}` }];
      await admin.command({ replSetInitiate: { _id: NAME, members } });
      return false;
    }
    if (hello['isWritablePrimary'] !== true) return false;
    await createUserOnce(client, secret);
    return true;
  } finally {
    await client.close();
  }
}

/** Without any user the server lets a client from this machine make the first one; with one it refuses, which is as good. */
async function createUserOnce(client: MongoClient, secret: string): Promise<void> {
  const UNAUTHORIZED = 13;
  try {
    await client.db('admin').command({ createUser: NAME, pwd: secret, roles: ['root'] });
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === UNAUTHORIZED)) throw error;
  }
}
