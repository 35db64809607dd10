import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** The four servers that Tollgate stands on. */
export const SERVER_NAMES = ['postgres', 'redis', 'rabbitmq', 'mongodb'] as const;

/** One of the four. */
export type ServerName = (typeof SERVER_NAMES)[number];

interface ServerFacts {
  readonly title: string;
  /** Least version, as major and minor. */
  readonly atLeast: readonly [number, number];
  /** A server whose variables are all set is used where it is; its data is not ours. */
  readonly variables: readonly string[];
  /** Packages of Debian and Ubuntu: the server, or what it takes to fetch and run it where they don't have it. */
  readonly packages: readonly string[];
}

/** What is asked of each server, and how it is named outside. */
export const SERVERS: Readonly<Record<ServerName, ServerFacts>> = {
  postgres: {
    title: 'PostgreSQL',
    atLeast: [15, 0],
    variables: ['TOLLGATE_POSTGRES_ADMIN_URL'],
    packages: ['postgresql'],
  },
  redis: {
    title: 'Redis',
    atLeast: [7, 0],
    variables: ['TOLLGATE_REDIS_URL'],
    packages: ['redis-server'],
  },
  rabbitmq: {
    title: 'RabbitMQ',
    atLeast: [3, 10],
    variables: ['TOLLGATE_AMQP_URL', 'TOLLGATE_AMQP_ADMIN_URL'],
    packages: ['rabbitmq-server'],
  },
  mongodb: {
    title: 'MongoDB (mongod)',
    atLeast: [6, 0],
    variables: ['TOLLGATE_MONGO_URL'],
    packages: ['python3-pip', 'libcurl4'],
  },
};

/** A server program on this machine. */
export interface Binary {
  /** The program that runs the server; PostgreSQL's other tools lie beside it. */
  readonly path: string;
  readonly version: string;
}

/** What a search found: the first that will do, and those that will not, each with its reason. */
export interface Search {
  readonly found: Binary | undefined;
  readonly unfit: readonly { readonly path: string; readonly reason: string }[];
}

/** Looks for a server on PATH, in the folders where systems keep it, and in our own cache. Changes nothing. */
export async function findBinary(name: ServerName): Promise<Search> {
  const unfit: { path: string; reason: string }[] = [];
  for (const path of CANDIDATES[name]()) {
    const version = await versionOf(name, path);
    if (version === undefined) unfit.push({ path, reason: 'does not run' });
    else if (isAtLeast(version, SERVERS[name].atLeast)) return { found: { path, version }, unfit };
    else unfit.push({ path, reason: `is ${version}` });
  }
  return { found: undefined, unfit };
}

/** A program on PATH or in one of the folders that a user's PATH often lacks. */
export function findOnPath(program: string): string | undefined {
  return onPath(program)[0];
}

/** Where downloads are kept: one folder per user. */
export function cacheFolder(): string {
  return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'tollgate');
}

/** Compares the first two numbers of a version. */
export function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [foundMajor = 0, foundMinor = 0] = version.split('.').map(Number);
  return foundMajor > major || (foundMajor === major && foundMinor >= minor);
}

function onPath(program: string): string[] {
  const folders = [
    ...(process.env['PATH'] ?? '').split(delimiter),
    '/usr/local/bin',
    '/usr/bin',
    '/usr/sbin',
  ];
  return [...new Set(folders)].map((folder) => join(folder, program)).filter(isProgram);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const CANDIDATES: Readonly<Record<ServerName, () => readonly string[]>> = {
  postgres: () =>
    [
      ...onPath('postgres'),
      ...versionedFolders('/usr/lib/postgresql').map((folder) => join(folder, 'bin/postgres')),
      ...versionedFolders('/usr', 'pgsql-').map((folder) => join(folder, 'bin/postgres')),
      // Without initdb beside it there is no way to make a data folder.
    ].filter((path) => isProgram(path) && isProgram(join(dirname(path), 'initdb'))),
  redis: () => onPath('redis-server'),
  rabbitmq: () =>
    [
      '/usr/lib/rabbitmq/bin/rabbitmq-server',
      '/opt/rabbitmq/sbin/rabbitmq-server',
      // Debian's own /usr/sbin/rabbitmq-server is a wrapper that starts the system's broker only; it has no plugins beside it.
      ...onPath('rabbitmq-server'),
    ].filter((path) => isProgram(path) && findOnPath('erl') !== undefined),
  mongodb: () =>
    [
      ...onPath('mongod'),
      ...versionedFolders(cacheFolder(), 'mongod-').map((folder) => join(folder, 'mongod')),
    ].filter(isProgram),
};

/** Folders in `parent` named `prefix` and a version, highest first. */
function versionedFolders(parent: string, prefix = ''): string[] {
  if (!existsSync(parent)) return [];
  return readdirSync(parent)
    .filter((name) => name.startsWith(prefix) && /^\d+(\.\d+)*$/.test(name.slice(prefix.length)))
    .toSorted((a, b) => b.localeCompare(a, 'en', { numeric: true }))
    .map((name) => join(parent, name));
}

async function versionOf(name: ServerName, path: string): Promise<string | undefined> {
  if (name === 'rabbitmq') return rabbitmqVersion(path);
  try {
    const { stdout } = await run(path, ['--version'], { timeout: 10_000 });
    return /(?:\(PostgreSQL\)|v=|version v?)\s*(\d+(?:\.\d+)*)/.exec(stdout)?.[1];
  } catch {
    return undefined;
  }
}

/** From the folder of its plugins: asking the program itself would start Erlang, which takes seconds. */
function rabbitmqVersion(path: string): string | undefined {
  const plugins = join(dirname(realpathSync(path)), '../plugins');
  if (!existsSync(plugins)) return undefined;
  const rabbit = readdirSync(plugins).find((entry) => /^rabbit-\d/.test(entry));
  return rabbit === undefined ? undefined : /\d+(\.\d+)*/.exec(rabbit)?.[0];
}
