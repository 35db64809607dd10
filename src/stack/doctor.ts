import { release } from 'node:os';
import { findBinary, SERVER_NAMES, type ServerName, SERVERS } from './binaries.ts';
import { type Environment, givenUrls, isGiven } from './environment.ts';
import { type Privilege, privilegeHere } from './apt.ts';
import { waysOut } from './missing.ts';
import { accepts } from './ports.ts';

/** What `tollgate doctor` tells of one server. */
export interface ServerReport {
  readonly name: ServerName;
  readonly title: string;
  /** Least version, as text. */
  readonly needs: string;
  /** `given`: by the environment; `found`: its program is here; `missing`: neither. */
  readonly state: 'given' | 'found' | 'missing';
  /** Of the program that was found; null otherwise. */
  readonly version: string | null;
  /** Path of the program, or host and port of a given server; never a password. */
  readonly where: string | null;
  /** Only of a given server: whether something accepts connections there. */
  readonly isReachable: boolean | null;
  /** Programs that were found and will not do, each with the reason. */
  readonly unfit: readonly string[];
  /** What to do; null where there is nothing to do. */
  readonly advice: string | null;
}

/** What is here, what is missing, and the line to type. */
export interface DoctorReport {
  readonly node: string;
  readonly system: string;
  /** Whether a first run may install packages here, and as whom. */
  readonly mayInstall: Privilege;
  readonly servers: readonly ServerReport[];
  /** True when all four servers are given and reachable, or found. */
  readonly isReady: boolean;
}

/** Looks at the machine and the environment. Changes nothing; the one thing it opens is a connection to a given server. */
export async function inspectMachine(environment: Environment = process.env): Promise<DoctorReport> {
  const mayInstall = await privilegeHere();
  const servers = await Promise.all(
    SERVER_NAMES.map(async (name) => await inspectServer(name, environment, mayInstall)),
  );
  return {
    node: process.versions.node,
    system: `${process.platform} ${process.arch}, kernel ${release()}`,
    mayInstall,
    servers,
    isReady: servers.every(({ advice }) => advice === null),
  };
}

async function inspectServer(
  name: ServerName,
  environment: Environment,
  mayInstall: Privilege,
): Promise<ServerReport> {
  const { title, atLeast } = SERVERS[name];
  const needs = atLeast.join('.');
  const common = { name, title, needs, version: null, where: null, isReachable: null, unfit: [] };
  try {
    if (isGiven(name, environment)) return { ...common, ...(await inspectGiven(name, environment)) };
  } catch (error) {
    return { ...common, state: 'missing', advice: error instanceof Error ? error.message : String(error) };
  }
  const { found, unfit } = await findBinary(name);
  const rest = { ...common, unfit: unfit.map(({ path, reason }) => `${path} ${reason}`) };
  if (found) return { ...rest, state: 'found', version: found.version, where: found.path, advice: null };
  const byItself = mayInstall !== null || name === 'mongodb' ? ['the first run tries to install it'] : [];
  return { ...rest, state: 'missing', advice: [...byItself, ...waysOut([name])].join('; or ') };
}

async function inspectGiven(
  name: ServerName,
  environment: Environment,
): Promise<Pick<ServerReport, 'state' | 'where' | 'isReachable' | 'advice'>> {
  const urls = Object.values(givenUrls([name], environment));
  const places = urls.map((url) => placeOf(url));
  const answers = await Promise.all(places.map(async ({ host, port }) => await accepts(port, host, 2_000)));
  const silent = places.filter((_, i) => !answers[i]).map(({ host, port }) => `${host}:${port}`);
  return {
    state: 'given',
    where: places.map(({ host, port }) => `${host}:${port}`).join(', '),
    isReachable: silent.length === 0,
    advice: silent.length === 0 ? null : `nothing answers at ${silent.join(', ')}`,
  };
}

const DEFAULT_PORTS: Readonly<Record<string, number>> = {
  postgres: 5432,
  postgresql: 5432,
  redis: 6379,
  rediss: 6379,
  amqp: 5672,
  amqps: 5671,
  http: 80,
  https: 443,
  mongodb: 27_017,
};

/** First host and port of a URL; by hand, because a URL with several hosts is one that `URL` refuses. */
export function placeOf(url: string): { host: string; port: number } {
  const [, scheme = '', host = '', port] =
    /^([a-z+]+):\/\/(?:[^@/]*@)?(\[[^\]]*\]|[^:/,?]*)(?::(\d+))?/.exec(url) ?? [];
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port ?? DEFAULT_PORTS[scheme] ?? 0) };
}
