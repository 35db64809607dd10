import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../clock.ts';
import { type Binary, SERVER_NAMES, type ServerName, SERVERS } from './binaries.ts';
import { type Environment, givenUrls, isGiven } from './environment.ts';
import type { SetupTimings } from './apt.ts';
import { ensureBinaries } from './install.ts';
import { Keeper } from './keeper.ts';
import { prepareMongodb } from './mongodb.ts';
import { type PortBlock, reservePorts } from './ports.ts';
import { preparePostgres } from './postgres.ts';
import { prepareRabbitmq } from './rabbitmq.ts';
import { prepareRedis } from './redis.ts';
import { ServerProcess } from './server-process.ts';
import type { Preparation, StackUrls, Workplace } from './types.ts';

/** What to start, and how. */
export interface StackOptions {
  /** Default: all four. */
  readonly only?: readonly ServerName[];
  /** Where URLs of given servers are looked for; default `process.env`. */
  readonly environment?: Environment;
  /** Told in whole lines what is being done; default: nobody. */
  readonly onProgress?: (line: string) => void;
  /** Calls a start off: what was begun is ended, and the start rejects. */
  readonly signal?: AbortSignal;
  /** How long each server may take to serve clients; default 60,000. */
  readonly startMsMax?: number;
}

/** How long it took to get here, in milliseconds. */
export interface StackTimings extends SetupTimings {
  /** From the first process to the last server that answers. */
  readonly startMs: number;
}

const PREPARE: Readonly<Record<ServerName, (place: Workplace) => Promise<Preparation>>> = {
  postgres: preparePostgres,
  redis: prepareRedis,
  rabbitmq: prepareRabbitmq,
  mongodb: prepareMongodb,
};

const NO_URLS: StackUrls = { postgresAdmin: '', redis: '', amqp: '', amqpAdmin: '', mongo: '' };

/**
 * Real servers on this machine. Those whose URL the environment gives are used where they are, and neither stopped nor
 * emptied; the others are found, or installed where the machine allows it, and started as children on loopback ports with
 * data under the temporary directory. Throws TG_SETUP_MISSING when one can neither be found nor installed, StoreError with
 * the end of its log when one does not start; nothing is left running then.
 * However this process ends, `kill -9` included, what was started ends with it and its data is removed.
 */
export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const { only = SERVER_NAMES, environment = process.env, startMsMax = 60_000, signal } = options;
  const onProgress = options.onProgress ?? (() => {});
  const given = only.filter((name) => isGiven(name, environment));
  const missing = only.filter((name) => !given.includes(name));
  const { binaries, timings } = await ensureBinaries(missing, { onProgress, signal });
  const startedAtMs = systemClock.monotonicMs();
  const ports = await reservePorts();
  signal?.throwIfAborted();
  const keeper = new Keeper();
  const abandon = () => void keeper.close();
  signal?.addEventListener('abort', abandon, { once: true });
  const servers = new Map<ServerName, ServerProcess>();
  const start = async (name: ServerName, binary: Binary): Promise<Partial<StackUrls>> => {
    const folder = join(keeper.folder, name);
    mkdirSync(folder, { mode: 0o700 });
    const secret = randomBytes(16).toString('hex');
    const { plan, urls } = await PREPARE[name]({ keeper, ports, binary, folder, secret });
    const server = new ServerProcess(plan, keeper);
    servers.set(name, server);
    await server.start(startMsMax);
    const seconds = ((systemClock.monotonicMs() - startedAtMs) / 1_000).toFixed(1);
    onProgress(`${SERVERS[name].title} ${binary.version} answers after ${seconds} s`);
    return urls;
  };
  try {
    // All are waited for, also when one fails: nothing may be started behind the back of the clean-up.
    const starts = await Promise.allSettled(binaries.map(({ name, binary }) => start(name, binary)));
    const started = starts.map((outcome) => {
      if (outcome.status === 'rejected') throw outcome.reason;
      return outcome.value;
    });
    const own = started.reduce((all, some) => ({ ...all, ...some }), {});
    const urls: StackUrls = { ...NO_URLS, ...givenUrls(given, environment), ...own };
    const startMs = systemClock.monotonicMs() - startedAtMs;
    return new Stack({ urls, servers, keeper, ports, timings: { ...timings, startMs } });
  } catch (error) {
    await keeper.close();
    ports.close();
    throw error;
  } finally {
    signal?.removeEventListener('abort', abandon);
  }
}

/** Four servers that answer. `stop` ends those that were started here. */
export class Stack {
  readonly urls: StackUrls;
  readonly timings: StackTimings;
  /** Data and logs; removed by `stop`. */
  readonly folder: string;
  readonly #servers: ReadonlyMap<ServerName, ServerProcess>;
  readonly #keeper: Keeper;
  readonly #ports: PortBlock;

  constructor(parts: {
    urls: StackUrls;
    timings: StackTimings;
    servers: ReadonlyMap<ServerName, ServerProcess>;
    keeper: Keeper;
    ports: PortBlock;
  }) {
    this.urls = parts.urls;
    this.timings = parts.timings;
    this.folder = parts.keeper.folder;
    this.#servers = parts.servers;
    this.#keeper = parts.keeper;
    this.#ports = parts.ports;
  }

  /** Those that were started here, and not given by the environment. */
  get started(): readonly ServerName[] {
    return [...this.#servers.keys()];
  }

  /** One server, to stop, start, pause and resume it. Throws for a given one: it is not ours. */
  server(name: ServerName): ServerProcess {
    const server = this.#servers.get(name);
    if (server === undefined) throw new Error(`${SERVERS[name].title} was not started by this stack`);
    return server;
  }

  /** Ends this process of the caller's, and all its descendants, when the stack ends, if they live still. */
  adopt(pid: number): void {
    this.#keeper.adopt(pid);
  }

  /** Ends all servers at once and removes their data; returns when no process is left. Idempotent. */
  async stop(): Promise<void> {
    await this.#keeper.close();
    this.#ports.close();
  }
}
