import type { DispatchMessage } from '../src/contracts/dispatch.ts';
import type { ReplyMessage } from '../src/contracts/reply.ts';
import type { ResultMessage } from '../src/contracts/result.ts';
import type { LeaseName } from '../src/workers/types.ts';
import type { JobRow } from './ledger.ts';
import { short } from './servers.ts';
import { EPOCH_MS } from './timeline.ts';
import type { World } from './world.ts';

/** A promise that was broken. */
export class BrokenInvariant extends Error {
  readonly invariant: string;

  constructor(invariant: string, what: string) {
    super(`${invariant}: ${what}`);
    this.invariant = invariant;
  }
}

/** A result that its broker confirmed is settled within this while its job is open, outages included, in milliseconds. */
const RESULT_MS_MAX = 30_000;

/** Holds what happens against the promise, as it happens and at the end. The first that is broken ends the seed. */
export class Judge {
  /** Jobs whose publish was confirmed to the client. */
  readonly confirmed = new Set<string>();
  readonly #world: World;
  readonly #told = new Map<string, string>();
  readonly #ran = new Set<string>();
  /** By digest, when the broker confirmed it (virtual), and whose it is. */
  readonly #results = new Map<string, { readonly result: ResultMessage; readonly atMs: number }>();
  readonly #attempts = new Map<string, number>();
  broken: BrokenInvariant | null = null;

  constructor(world: World) {
    this.#world = world;
  }

  /** The first stands. */
  fail(invariant: string, what: string): void {
    this.broken ??= new BrokenInvariant(invariant, what);
  }

  /** A dispatch is in its node's queue: its lock has committed and names this attempt, node and session. */
  dispatched(body: Buffer): void {
    const dispatch: DispatchMessage = JSON.parse(body.toString());
    const { job, attempt, node, session } = dispatch;
    const name = `${short(job)}.${attempt}`;
    this.#world.timeline.note(`dispatched ${name} to ${node}`);
    const row = this.#world.ledger.jobs.get(job);
    const isLocked = this.#transfers(job).some(({ phase }) => phase === 0);
    if (!row || !isLocked) return this.fail('unlocked dispatch', `${name} has no lock`);
    const before = this.#world.ledger.attempts.find((one) => one.jobId === job && one.attempt === attempt);
    const named = attempt === row.attempt ? row : before;
    if (named?.node !== node || named.session !== session)
      this.fail('dispatch elsewhere', `${name} went to ${node}, its row says ${named?.node}`);
  }

  /** A worker begins an attempt. One that nobody waits for any more may run again; it counts for nothing. */
  ran({ job, attempt }: DispatchMessage): void {
    const key = `${job}.${attempt}`;
    const row = this.#world.ledger.jobs.get(job);
    const isOpen = row?.endedMs === null && row.attempt === attempt;
    if (this.#ran.has(key) && isOpen) this.fail('run twice', `${short(job)}.${attempt}`);
    this.#ran.add(key);
  }

  /** A worker's result is with the broker. */
  returned(body: Buffer): void {
    const result: ResultMessage = JSON.parse(body.toString());
    if (!this.#results.has(result.digest))
      this.#results.set(result.digest, { result, atMs: this.#world.timeline.nowMs });
  }

  /** The broker had no room for a message. */
  nacked(messageId: string): void {
    if (messageId.startsWith('r-')) this.#world.timeline.note(`no room for reply ${short(messageId)}`);
  }

  /** A reply reached its client: by then its row says the same. */
  replied(body: Buffer, messageId: string): void {
    const reply: ReplyMessage = JSON.parse(body.toString());
    if (reply.job === null || !messageId.startsWith('r-')) return;
    const name = short(reply.job);
    const what = `${reply.state} ${reply.charged_micro}`;
    this.#world.timeline.note(`reply ${name}: ${what}`);
    const row = this.#world.ledger.jobs.get(reply.job);
    // What was too broken to be a job is refused, and no row remembers it.
    if (reply.error?.code.startsWith('TG_MESSAGE_') === true) return;
    if (row?.state !== reply.state || row.chargedMicro !== BigInt(reply.charged_micro))
      this.fail('untrue reply', `${name} was told ${what}, its row says ${row?.state} ${row?.chargedMicro}`);
    const before = this.#told.get(reply.job);
    if (before !== undefined && before !== what) this.fail('two answers', `${name}: ${before}, then ${what}`);
    this.#told.set(reply.job, what);
  }

  /** A release ended a lease: it may only be the one that it names. */
  released(lease: LeaseName, by: LeaseName): void {
    const isIts = lease.attempt === by.attempt && lease.node === by.node && lease.session === by.session;
    if (!isIts)
      this.fail(
        'slot of another',
        `the lease of ${short(by.jobId)}.${lease.attempt} was ended by ${by.attempt}`,
      );
  }

  /** Credit is conserved, locks are resolved once, attempts only grow. Cheap enough for every few events. */
  checkBooks(): void {
    const { ledger } = this.#world;
    const held = new Map<number, bigint>();
    const captured = new Map<number, bigint>();
    for (const row of ledger.jobs.values()) {
      this.#checkRow(row);
      if (row.endedMs === null) held.set(row.accountId, (held.get(row.accountId) ?? 0n) + row.lockedMicro);
      captured.set(row.accountId, (captured.get(row.accountId) ?? 0n) + row.chargedMicro);
    }
    for (const [id, account] of ledger.accounts) {
      if (account.heldMicro !== (held.get(id) ?? 0n) || account.capturedMicro !== (captured.get(id) ?? 0n))
        this.fail(
          'credit conserved',
          `account ${id} holds ${account.heldMicro}, captured ${account.capturedMicro}`,
        );
      if (account.creditedMicro < account.capturedMicro + account.heldMicro)
        this.fail('overdraft', `account ${id}`);
    }
  }

  #checkRow(row: JobRow): void {
    const name = short(row.id);
    const transfers = this.#transfers(row.id);
    const locks = transfers.filter(({ phase }) => phase === 0).length;
    const resolutions = transfers.filter(({ phase }) => phase === 1);
    if (locks !== (row.attempt > 0 ? 1 : 0)) this.fail('one lock', `${name} has ${locks}`);
    const isResolved = row.attempt > 0 && row.endedMs !== null;
    if (resolutions.length !== (isResolved ? 1 : 0))
      this.fail('one resolution', `${name}, ${row.state}, has ${resolutions.length}`);
    if (row.attempt < (this.#attempts.get(row.id) ?? 0))
      this.fail('attempts grow', `${name} at ${row.attempt}`);
    this.#attempts.set(row.id, row.attempt);
    const digest = resolutions[0]?.digest?.toString('hex');
    const settled = digest === undefined ? undefined : this.#results.get(digest)?.result;
    if (
      settled &&
      (settled.attempt !== row.attempt || settled.node !== row.node || settled.session !== row.session)
    )
      this.fail('fence', `${name} at attempt ${row.attempt} was ended by a result of ${settled.attempt}`);
  }

  /** Everything has had its time and nothing moves. */
  checkEnd(): void {
    const { ledger, fleet, broker, traces } = this.#world;
    this.checkBooks();
    for (const id of this.confirmed) {
      const row = ledger.jobs.get(id);
      if (!row || row.endedMs === null) this.fail('lost', `${short(id)} is ${row?.state ?? 'nowhere'}`);
      // A reply that the broker had no room for is tried again from memory; a coordinator that dies meanwhile leaves an event.
      else if (!this.#told.has(id) && !traces.events.has(`reply-delayed:${id}`))
        this.fail('untold', `nobody was told of ${short(id)}, ${row.state}`);
    }
    for (const { jobId, attempt } of ledger.attempts) {
      const now = ledger.jobs.get(jobId)?.attempt ?? 0;
      if (now <= attempt)
        this.fail('fence moves', `${short(jobId)} gave up attempt ${attempt} and is at ${now}`);
    }
    for (const row of ledger.jobs.values()) this.#checkTraces(row);
    this.#checkResults();
    for (const [id, { node }] of fleet.leases) this.fail('slot leaked', `${short(id)} on ${node}`);
    for (const { queue, ready, open } of broker.standing())
      if (ready + open > 0) this.fail('left in a queue', `${queue}: ${ready} ready, ${open} unacknowledged`);
  }

  #checkTraces({ id, attempt, state }: JobRow): void {
    const { requests, attempts } = this.#world.traces;
    const isCancelledFirst = state === 'cancelled' && attempt === 0;
    if (!isCancelledFirst && !requests.has(id)) this.fail('trace', `no request of ${short(id)}, ${state}`);
    for (let n = 1; n <= attempt; n++)
      if (!attempts.has(`${id}.${n}`)) this.fail('trace', `no end of ${short(id)}.${n}, ${state}`);
  }

  /** What a worker delivered in time is not thrown away. */
  #checkResults(): void {
    for (const { result, atMs } of this.#results.values()) {
      const row = this.#world.ledger.jobs.get(result.job);
      const isIts = row && this.#world.ledger.isFence(row, { ...result, jobId: result.job });
      const waitedMs = (row?.endedMs ?? 0) - EPOCH_MS - atMs;
      if (isIts && waitedMs > RESULT_MS_MAX)
        this.fail(
          'result lost',
          `${short(result.job)}.${result.attempt} ended ${row.code} ${waitedMs} ms after its result`,
        );
    }
  }

  #transfers(jobId: string) {
    return this.#world.ledger.transfers.get(jobId) ?? [];
  }
}
