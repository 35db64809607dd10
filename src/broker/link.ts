import { type ChannelModel, connect } from 'amqplib';
import type { Log } from '../ops/types.ts';
import { brokerError, textOf } from './amqp-errors.ts';
import { cutSocket, gatherWrites } from './amqplib-internals.ts';

/** First pause after a failed try; it doubles up to the configured maximum. */
const RECONNECT_DELAY_MS_MIN = 50;

/** A connection that has ended gets this long to send what it still has; then its socket goes. */
const LINGER_MS = 1_000;

/** Bytes the socket takes before amqplib's multiplexer waits for a drain: about two batches of dispatches. */
const SOCKET_BUFFER_BYTES = 1_048_576;

/** How one connection is made and made again. */
export interface LinkOptions {
  readonly url: string;
  /** Shown in the management pages and in our log, e.g. `tollgate publish`. */
  readonly name: string;
  readonly heartbeatS: number;
  readonly connectTimeoutMs: number;
  readonly reconnectDelayMsMax: number;
  readonly log: Log;
}

/** What the owner of a link does with its connection. */
export interface LinkUser {
  /** A new connection is there; the link counts as up when this resolves. A rejection closes it and tries again. */
  onOpen(model: ChannelModel): Promise<void>;
  /** The connection is set up and in use. */
  onUp(): void;
  /** Called once for each connection that was opened: it is gone, with all its channels. */
  onLost(): void;
  /** A resource alarm of the broker stops, or no longer stops, what this connection publishes. */
  onBlocked?(isBlocked: boolean): void;
}

/**
 * One AMQP connection that is made again whenever it is lost. States: stopped → connecting → up → (lost) pausing →
 * connecting → …; `stop` ends it from any of them. No error of a connection leaves it but the failed first tries.
 */
export class Link {
  readonly #options: LinkOptions;
  readonly #user: LinkUser;
  #model: ChannelModel | null = null;
  #first: PromiseWithResolvers<void> | null = null;
  #isStopping = false;
  #running: Promise<void> = Promise.resolve();
  #endPause: () => void = () => {};

  constructor(options: LinkOptions, user: LinkUser) {
    this.#options = options;
    this.#user = user;
  }

  /** The connection while the link is up, else null. */
  get model(): ChannelModel | null {
    return this.#model;
  }

  /** Resolves at the first connection; rejects with the last error after `triesMax` failed tries. */
  start(triesMax: number): Promise<void> {
    if (this.#first === null) {
      this.#first = Promise.withResolvers<void>();
      this.#isStopping = false;
      this.#running = this.#run(this.#first, triesMax);
    }
    return this.#first.promise;
  }

  /** Closes the connection and resolves when it is gone and no other will be made. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#endPause();
    if (this.#model !== null) await this.#close(this.#model);
    await this.#running;
    this.#first = null;
  }

  /** Ends this connection, so that the link makes a new one. */
  drop(): void {
    if (this.#model !== null) void this.#close(this.#model);
  }

  async #run(first: PromiseWithResolvers<void>, triesMax: number): Promise<void> {
    const { log, name } = this.#options;
    let isFirst = true;
    let failures = 0;
    while (!this.#isStopping) {
      try {
        const lost = await this.#open();
        isFirst = false;
        failures = 0;
        first.resolve();
        const reason = await lost.promise;
        if (!this.#isStopping) log.warn({ connection: name, reason }, 'the connection to RabbitMQ was lost');
      } catch (error) {
        failures += 1;
        log.warn({ connection: name, failures, reason: textOf(error) }, 'RabbitMQ cannot be reached');
        if (isFirst && failures >= triesMax) {
          first.reject(brokerError(error, 'connecting'));
          return;
        }
      }
      if (!this.#isStopping) await this.#pause(failures);
    }
    first.reject(brokerError(new Error('stopped before the first connection'), 'connecting'));
  }

  /** Opens a connection and lets its user set it up; what it returns resolves with the reason when it is lost. */
  async #open(): Promise<PromiseWithResolvers<string>> {
    const { url, name, heartbeatS, connectTimeoutMs, log } = this.#options;
    const address = new URL(url);
    address.searchParams.set('heartbeat', String(heartbeatS));
    const socket = {
      noDelay: true,
      timeout: connectTimeoutMs,
      writableHighWaterMark: SOCKET_BUFFER_BYTES,
      clientProperties: { connection_name: name },
    };
    const model = await connect(address.href, socket);
    if (!gatherWrites(model)) log.debug({ connection: name }, 'socket writes are not gathered');
    const lost = Promise.withResolvers<string>();
    let reason = 'closed';
    let isLost = false;
    model.on('error', (error) => (reason = textOf(error)));
    model.on('handler-error', (error) => log.error({ connection: name, error }, 'a listener failed'));
    model.on('blocked', () => this.#user.onBlocked?.(true));
    model.on('unblocked', () => this.#user.onBlocked?.(false));
    model.once('close', (error) => {
      isLost = true;
      this.#model = null;
      setTimeout(() => cutSocket(model), LINGER_MS).unref();
      this.#user.onLost();
      lost.resolve(error === undefined ? reason : textOf(error));
    });
    try {
      await this.#user.onOpen(model);
    } catch (error) {
      await this.#close(model);
      throw error;
    }
    if (this.#isStopping) {
      await this.#close(model);
    } else if (!isLost) {
      this.#model = model;
      this.#user.onUp();
    }
    return lost;
  }

  /** Closes politely, and cuts the socket where the broker does not answer in time. */
  async #close(model: ChannelModel): Promise<void> {
    const closed = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      cutSocket(model);
      closed.resolve();
    }, this.#options.connectTimeoutMs);
    // It rejects where the connection is closed already, which is what is wanted.
    model.close().then(closed.resolve, closed.resolve);
    await closed.promise;
    clearTimeout(timer);
  }

  async #pause(failures: number): Promise<void> {
    const cap = this.#options.reconnectDelayMsMax;
    const backoffMs = Math.min(cap, RECONNECT_DELAY_MS_MIN * 2 ** Math.min(failures, 16));
    const pause = Promise.withResolvers<void>();
    this.#endPause = pause.resolve;
    // Jitter keeps coordinators that lost the broker together from coming back together.
    const timer = setTimeout(pause.resolve, backoffMs * (0.5 + Math.random() / 2));
    await pause.promise;
    clearTimeout(timer);
  }
}
