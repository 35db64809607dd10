import type { TimeSource } from '../clock.ts';
import type { Config } from '../config-schema.ts';
import { publisherUser } from '../contracts/names.ts';
import { type Code, type Refusal, refusal } from '../errors.ts';
import type { Account, Publisher } from '../network/types.ts';
import { TokenBucket } from './token-bucket.ts';

/** A job beyond a limit. `event` is the key of the one event that stands for all of its kind in this minute, null after the first. */
export interface Limited {
  readonly refusal: Refusal;
  readonly event: string | null;
}

/** A publisher's refusals: of the second that runs, and since when the seconds before it were each a flood (monotonic). */
interface Excess {
  secondMs: number;
  count: number;
  floodingSinceMs: number | null;
  /** Monotonic time of the last refusal. */
  lastMs: number;
}

/** Refusals are added up over this, in milliseconds. */
const WINDOW_MS = 1_000;
const MINUTE_MS = 60_000;

/**
 * What one account and one publisher may ask of this coordinator, judged from memory before any server is asked: jobs per second,
 * credit locks open at a time, jobs waiting for a slot. A refusal costs a reply and nothing else.
 *
 * None of this guards money: each coordinator counts for itself, and locks are counted roughly. What an account can spend is bounded
 * by its credit, in PostgreSQL.
 */
export class IntakeLimits {
  readonly #bounds: Config['limits'];
  readonly #clock: TimeSource;
  readonly #onFlood: (publisher: Publisher) => void;
  readonly #publishers = new Map<number, TokenBucket>();
  readonly #accounts = new Map<number, TokenBucket>();
  /** Locks of each account that this coordinator knows of. */
  readonly #openLocks = new Map<number, { open: number; max: number }>();
  /** By RabbitMQ user. */
  readonly #excesses = new Map<string, Excess>();
  /** Code and name → the minute whose event was written. */
  readonly #noted = new Map<string, number>();

  /** `onFlood` is called while a publisher goes on with a flood, at most once a second. */
  constructor(bounds: Config['limits'], clock: TimeSource, onFlood: (publisher: Publisher) => void) {
    this.#bounds = bounds;
    this.#clock = clock;
    this.#onFlood = onFlood;
  }

  /** Judges a delivery by its sender, before its bytes are read. */
  ofPublisher(publisher: Publisher): Limited | null {
    const nowMs = this.#clock.monotonicMs();
    if (publisher.bannedUntilMs > nowMs) {
      const detail = `for another ${seconds(publisher.bannedUntilMs - nowMs)} s`;
      return this.#beyond(
        publisher,
        publisher.name,
        refusal('TG_PUBLISHER_CUT_OFF', 'user_id', detail),
        nowMs,
      );
    }
    const { publisherJobsPerSecond: rate, publisherBurstJobs: burst } = this.#bounds;
    const waitMs = bucketOf(this.#publishers, publisher.id, burst, nowMs).take(rate, burst, nowMs);
    if (waitMs === 0) return null;
    return this.#beyond(publisher, publisher.name, rateRefusal('user_id', rate, waitMs), nowMs);
  }

  /** Judges a job by the account that would pay, before anything of it is computed or looked up. */
  ofAccount(publisher: Publisher, account: Account): Limited | null {
    const nowMs = this.#clock.monotonicMs();
    const { limits } = account;
    const rate = limits.jobsPerSecond ?? this.#bounds.accountJobsPerSecond;
    const burst = limits.burstJobs ?? this.#bounds.accountBurstJobs;
    const waitMs = bucketOf(this.#accounts, account.id, burst, nowMs).take(rate, burst, nowMs);
    if (waitMs > 0) return this.#beyond(publisher, account.name, rateRefusal('account', rate, waitMs), nowMs);
    const openMax = limits.openLocksMax ?? this.#bounds.accountOpenLocksMax;
    const locks = this.#locksOf(account.id);
    locks.max = openMax;
    if (locks.open >= openMax) {
      const why = refusal('TG_OPEN_LOCKS', 'account', `at most ${openMax} at a time`);
      return this.#beyond(publisher, account.name, why, nowMs);
    }
    return null;
  }

  /** Judges a job that found no slot, by how many of its account wait in the same room already. */
  ofWaiting(held: number, publisher: Publisher, account: Account): Limited | null {
    const queuedMax = account.limits.queuedMax ?? this.#bounds.accountQueuedMax;
    if (held < queuedMax) return null;
    const why = refusal('TG_QUEUED_JOBS', 'account', `at most ${queuedMax} at a time`);
    return this.#beyond(publisher, account.name, why, this.#clock.monotonicMs());
  }

  /** True while a RabbitMQ user is being refused: what it sends is worth judging at once and not only when a slot comes free. */
  isRefusing(user: string | null): boolean {
    const excess = user === null ? undefined : this.#excesses.get(user);
    return excess !== undefined && this.#clock.monotonicMs() - excess.lastMs < WINDOW_MS;
  }

  /** A credit lock of the account was taken, or ended, by this coordinator. */
  countLock(accountId: number, change: 1 | -1): void {
    const locks = this.#locksOf(accountId);
    locks.open = Math.max(0, locks.open + change);
  }

  /** Accounts with at least half of the locks that they may have: the ones worth counting exactly. */
  get accountsNearBound(): readonly number[] {
    return [...this.#openLocks].filter(([, { open, max }]) => open > 0 && open >= max / 2).map(([id]) => id);
  }

  /** Takes over what PostgreSQL counted: there other coordinators' locks are in it, and those that a sweep ended are not. */
  setOpenLocks(accountId: number, open: number): void {
    this.#locksOf(accountId).open = open;
  }

  #locksOf(accountId: number): { open: number; max: number } {
    const known = this.#openLocks.get(accountId);
    if (known !== undefined) return known;
    const locks = { open: 0, max: this.#bounds.accountOpenLocksMax };
    this.#openLocks.set(accountId, locks);
    return locks;
  }

  #beyond(publisher: Publisher, name: string, why: Refusal, nowMs: number): Limited {
    this.#countExcess(publisher, nowMs);
    return { refusal: why, event: this.#eventKey(why.code, name) };
  }

  /** A flood is more refusals a second than `floodJobsPerSecond`, second after second for `floodMs`. */
  #countExcess(publisher: Publisher, nowMs: number): void {
    const user = publisherUser(publisher.name);
    const excess = this.#excesses.get(user);
    if (excess === undefined) {
      this.#excesses.set(user, { secondMs: nowMs, count: 1, floodingSinceMs: null, lastMs: nowMs });
      return;
    }
    excess.count += 1;
    excess.lastMs = nowMs;
    const forMs = nowMs - excess.secondMs;
    if (forMs < WINDOW_MS) return;
    const isFlood = (excess.count * WINDOW_MS) / forMs > this.#bounds.floodJobsPerSecond;
    excess.floodingSinceMs = isFlood ? (excess.floodingSinceMs ?? excess.secondMs) : null;
    excess.secondMs = nowMs;
    excess.count = 0;
    if (excess.floodingSinceMs !== null && nowMs - excess.floodingSinceMs >= this.#bounds.floodMs)
      this.#onFlood(publisher);
  }

  #eventKey(code: Code, name: string): string | null {
    const subject = `${code}:${name}`;
    const minute = Math.floor(this.#clock.nowMs() / MINUTE_MS);
    if (this.#noted.get(subject) === minute) return null;
    this.#noted.set(subject, minute);
    return `${subject}:${minute}`;
  }
}

function bucketOf(buckets: Map<number, TokenBucket>, id: number, burst: number, nowMs: number): TokenBucket {
  const known = buckets.get(id);
  if (known !== undefined) return known;
  const bucket = new TokenBucket(burst, nowMs);
  buckets.set(id, bucket);
  return bucket;
}

function rateRefusal(field: string, rate: number, waitMs: number): Refusal {
  return refusal('TG_RATE_LIMITED', field, `at most ${rate} a second; try again in ${Math.ceil(waitMs)} ms`);
}

function seconds(ms: number): number {
  return Math.ceil(ms / WINDOW_MS);
}
