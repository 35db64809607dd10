import type { Clock } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import { publisherUser } from '../contracts/names.ts';
import { CODES, TollgateError } from '../errors.ts';
import type { Directory, Publisher } from '../network/types.ts';
import type { Log, Metrics, Service } from '../ops/types.ts';
import type { EventDocument, TraceSink } from '../traces/types.ts';
import type { IntakeLimits } from './intake-limits.ts';
import { NO_DOCUMENTS, writeDocuments } from './trace.ts';

/** Where cut-offs are kept: every coordinator obeys them, and they outlive all of them. */
export interface PublisherBans {
  /** Cuts a publisher off for `holdOffMs` from now; false where it was cut off already. */
  ban(publisherId: number, holdOffMs: number): Promise<boolean>;
  /** Forgets a cut-off that is over; false where there is none. Idempotent. */
  lift(publisherId: number): Promise<boolean>;
}

/** Takes a RabbitMQ user's right to publish jobs and closes its connections, and gives the right back. Both may be repeated. */
export interface PublisherRights {
  take(user: string): Promise<void>;
  giveBack(user: string): Promise<void>;
}

interface CutOffDeps {
  readonly limits: Pick<IntakeLimits, 'accountsNearBound' | 'setOpenLocks'>;
  readonly bans: PublisherBans;
  /** Null where there is no management API. */
  readonly rights: PublisherRights | null;
  /** How many locks of each account are open, by its id. */
  readonly countOpenLocks: (accountIds: readonly number[]) => Promise<ReadonlyMap<number, number>>;
  readonly directory: Pick<Directory, 'publishers'>;
  readonly traces: TraceSink;
  readonly bounds: Config['limits'];
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Pick<Metrics, 'publisherCutOff'>;
}

/**
 * What happens to a publisher that floods, and the upkeep of the limits. A cut-off is written to PostgreSQL first: from there every
 * coordinator learns to refuse the publisher unread, and whoever is alive when it ends gives the right to publish back, before it
 * is forgotten. So a crash anywhere leaves something to repeat and nobody cut off for good. A publisher whose right came back too
 * early, or was never taken, goes on flooding and meets the same again.
 */
export class CutOff implements Service {
  readonly #deps: CutOffDeps;
  /** Ids of publishers that are being cut off. */
  readonly #cutting = new Set<number>();
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<void> = Promise.resolve();
  #isRunning = false;

  constructor(deps: CutOffDeps) {
    this.#deps = deps;
  }

  async start(): Promise<void> {
    this.#timer ??= setInterval(() => this.#tick(), this.#deps.bounds.refreshMs);
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await this.#running;
  }

  /** Cuts a publisher off, apart from the line; a server that is away puts it off until the flood is seen again. */
  onFlood(publisher: Publisher): void {
    if (this.#cutting.has(publisher.id)) return;
    this.#cutting.add(publisher.id);
    void this.#attempt('cut off', publisher, () => this.#cut(publisher)).finally(() =>
      this.#cutting.delete(publisher.id),
    );
  }

  async #cut(publisher: Publisher): Promise<void> {
    const { bans, bounds, rights, log, metrics } = this.#deps;
    const isNew = await bans.ban(publisher.id, bounds.holdOffMs);
    if (isNew) {
      metrics.publisherCutOff();
      log.warn(
        { publisher: publisher.name, holdOffMs: bounds.holdOffMs },
        'a publisher floods and is cut off',
      );
      await this.#record(publisher);
    }
    if (rights !== null) return rights.take(publisherUser(publisher.name));
    log.error(
      { publisher: publisher.name },
      'a publisher floods and stays connected: without TOLLGATE_AMQP_ADMIN_URL its jobs can only be refused',
    );
  }

  async #record({ name }: Publisher): Promise<void> {
    const { traces, log, clock, bounds } = this.#deps;
    const atMs = clock.nowMs();
    const event: EventDocument = {
      key: `TG_PUBLISHER_CUT_OFF:${name}:at:${atMs}`,
      kind: 'anomaly',
      code: 'TG_PUBLISHER_CUT_OFF',
      field: null,
      message: `${CODES.TG_PUBLISHER_CUT_OFF.text} for ${bounds.holdOffMs} ms`,
      job: null,
      namespace: null,
      sender: publisherUser(name),
      atMs,
    };
    await writeDocuments({ ...NO_DOCUMENTS, events: [event] }, traces, log);
  }

  #tick(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#running = this.#look().finally(() => {
      this.#isRunning = false;
    });
  }

  async #look(): Promise<void> {
    const { directory, clock, limits } = this.#deps;
    const nowMs = clock.monotonicMs();
    for (const publisher of directory.publishers()) {
      const { bannedUntilMs } = publisher;
      if (Number.isFinite(bannedUntilMs) && bannedUntilMs <= nowMs)
        await this.#attempt('let in again', publisher, () => this.#letIn(publisher));
    }
    const near = limits.accountsNearBound;
    if (near.length > 0) await this.#attempt('count', null, () => this.#count(near));
  }

  /** The right first: were it forgotten before that, nobody would give it back. */
  async #letIn(publisher: Publisher): Promise<void> {
    await this.#deps.rights?.giveBack(publisherUser(publisher.name));
    if (await this.#deps.bans.lift(publisher.id))
      this.#deps.log.info({ publisher: publisher.name }, 'a publisher that was cut off may send again');
  }

  async #count(accountIds: readonly number[]): Promise<void> {
    for (const [id, open] of await this.#deps.countOpenLocks(accountIds))
      this.#deps.limits.setOpenLocks(id, open);
  }

  /** A server that is away, or says no, leaves it to the next time. */
  async #attempt(what: string, publisher: Publisher | null, call: () => Promise<void>): Promise<void> {
    try {
      await call();
    } catch (error) {
      if (!(error instanceof TollgateError)) throw error;
      this.#deps.log.warn({ what, publisher: publisher?.name, reason: error.message }, 'limits: put off');
    }
  }
}
