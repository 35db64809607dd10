import { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import type { Log } from '../ops/types.ts';
import type { DatabaseOptions } from './database.ts';
import { failureOf } from './failures.ts';

const RECONNECT_PAUSE_MS_MIN = 50;

/**
 * One connection that LISTENs, and is made again when it is lost.
 *
 * States: `stopped` → `connecting` → `listening` → (lost) `connecting` … → `stopped`. Pauses between tries double up to
 * `reconnectDelayMsMax`, with jitter, and start over once it listens.
 */
export class Listener {
  readonly #options: DatabaseOptions;
  readonly #statement: string;
  readonly #heard: () => void;
  readonly #log: Log;
  #client: Client | null = null;
  /** The live client's own, which outlives a goodbye that nobody answers. */
  #socket: Socket | null = null;
  #timer: NodeJS.Timeout | null = null;
  #pauseMs = RECONNECT_PAUSE_MS_MIN;
  #isStopped = true;

  constructor(options: DatabaseOptions, statement: string, heard: () => void, log: Log) {
    this.#options = options;
    this.#statement = statement;
    this.#heard = heard;
    this.#log = log;
  }

  start(): void {
    if (!this.#isStopped) return;
    this.#isStopped = false;
    void this.#connect();
  }

  /** A server that does not answer the goodbye gets no more time for it than for a connection. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    const client = this.#client;
    const socket = this.#socket;
    this.#client = null;
    this.#socket = null;
    if (client === null) return;
    const timer = new AbortController();
    const tooLong = delay(this.#options.connectTimeoutMs, undefined, { signal: timer.signal });
    await Promise.race([client.end(), tooLong]).catch(() => undefined);
    timer.abort();
    tooLong.catch(() => undefined);
    socket?.destroy();
  }

  async #connect(): Promise<void> {
    const socket = new Socket();
    this.#socket = socket;
    const client = new Client({
      connectionString: this.#options.url,
      connectionTimeoutMillis: this.#options.connectTimeoutMs,
      keepAlive: true,
      stream: () => socket,
      application_name: 'tollgate-listen',
    });
    this.#client = client;
    client.on('error', (error) => this.#lost(client, error));
    client.on('end', () => this.#lost(client, new Error('the connection ended')));
    client.on('notification', () => this.#heard());
    try {
      await client.connect();
      await client.query(this.#statement);
      this.#pauseMs = RECONNECT_PAUSE_MS_MIN;
      if (this.#client === client) this.#heard();
    } catch (error) {
      this.#lost(client, error);
    }
  }

  /** Called for every sign of the loss; only the first one of the live client counts. */
  #lost(client: Client, error: unknown): void {
    if (this.#client !== client || this.#isStopped) return;
    this.#client = null;
    client.end().catch(() => undefined);
    this.#log.debug({ detail: failureOf(error).message }, 'The listening connection was lost');
    this.#timer = setTimeout(() => void this.#connect(), this.#pauseMs * (0.5 + Math.random() / 2));
    this.#pauseMs = Math.min(this.#pauseMs * 2, this.#options.reconnectDelayMsMax);
  }
}
