import type { Delivery } from '../broker/types.ts';
import type { ChatJob } from '../contracts/job.ts';
import type { Priority } from '../contracts/names.ts';
import type { ReplyMessage } from '../contracts/reply.ts';
import type { Refusal } from '../errors.ts';
import type { JobIdentity, RetryFacts } from '../ledger/types.ts';
import type { Account, ModelVersion, Publisher } from '../network/types.ts';
import type { Choice } from '../workers/types.ts';

/**
 * How a job reached us: from its pool's queue, by the alternate exchange (no queue for its key), or dead-lettered by its
 * pool's queue because `wait_ms` ran out there.
 */
export type Source = 'pool' | 'unroutable' | 'expired';

/** Where a delivery came from, and where it waits when there is no slot for it. */
export interface WaitingRoom {
  /** Deliveries of one of its queues that may be unanswered at a time. */
  readonly prefetch: number;
  /** Takes back an arrival that found no slot; it is offered again on a wake-up, or handed back to the broker. */
  hold(arrival: Arrival): void;
  /** Jobs of this room got slots just now: there is movement. */
  placed(count: number): void;
  /** Jobs of an account that are in our hands here and have had to wait for a slot. */
  heldBy(account: string): number;
  /** True while other deliveries wait for the end of this one. */
  isAwaited(delivery: Delivery): boolean;
  /** The broker was answered: the arrival's bytes are no longer ours. */
  left(arrival: Arrival): void;
}

/** One job delivery on its way through the stages. */
export interface Arrival {
  readonly delivery: Delivery;
  readonly source: Source;
  readonly priority: Priority;
  readonly room: WaitingRoom;
  /** Kept from the first admission, so that a held job is not parsed again. Written by admit only. */
  parsed: ChatJob | null;
  /** Of the body; kept from the first admission, too. Written by admit only. */
  digest?: Buffer;
  /** The job that it is about, as soon as that is known. Written by admit only. */
  jobId: string | null;
  /** Kept from the first time that a later attempt's row and input were read. Written by resume only. */
  resumed: Resumed | null;
  /** True if coordinators died over this delivery again and again: it is not read any more. */
  readonly isPoison: boolean;
  /** True once the directory was read again for it: what it does not know now, it does not know. Written by the line only. */
  isRefreshed: boolean;
  /** Set once limits let it in: it is not judged again when it comes back from waiting. Written by admit only. */
  isWithinLimits?: true;
  /** Set once it was let wait for a slot. Written by the bound of waiting jobs only. */
  hasWaited?: true;
  /** Set once its pool was asked for: one that is not open now will not be. Written by admission only. */
  hasAskedForPool?: true;
  /** How often it waited for a trace: of its finished twin, or of its own input. Written by the line only. */
  asked: number;
}

/** A job of a known sender for a known account: the arbiter may remember what is said of it. */
export interface Known {
  readonly arrival: Arrival;
  readonly job: ChatJob;
  readonly account: Account;
  readonly publisher: Publisher;
  /** Null only if there is no such model. */
  readonly model: ModelVersion | null;
  /** Whose slots it needs: its model's, under its constraint. */
  readonly pool: string;
  readonly identity: JobIdentity;
}

/** An attempt that may run; all that the stages behind admit need of it, whichever attempt it is. */
export interface Runnable {
  readonly arrival: Arrival;
  readonly jobId: string;
  readonly job: ChatJob;
  /** The job's input in JSON where admit has just written it for the digest; null: dispatch writes it. */
  readonly inputJson: string | null;
  /** What runs: the model that was asked for, or a fallback. */
  readonly model: ModelVersion;
  readonly attempt: number;
}

/** The first attempt of a job: its model is known and all limits are in order. It has no lock yet. */
export interface Admitted extends Known, Runnable {
  readonly model: ModelVersion;
  readonly resumed: null;
}

/** A later attempt of a job whose lock stands: what its row says, and its input from the trace. */
export interface Resumed extends Runnable {
  readonly resumed: RetryFacts;
}

/** A job with a slot. `isTaken`: this call took the lease, so this call gives it back if the lock says no. */
export interface Reserved<J extends Runnable = Admitted | Resumed> {
  readonly admitted: J;
  readonly choice: Choice;
  readonly isTaken: boolean;
}

/**
 * A job whose credit lock has committed, and where PostgreSQL says it goes: the only thing that may be dispatched.
 * `askedMs`: monotonic time at which the question was sent; `startMs` and `remainingMs` count from there.
 */
export interface Locked {
  readonly admitted: Admitted | Resumed;
  readonly attempt: number;
  readonly node: string;
  readonly session: number;
  readonly startMs: number;
  readonly remainingMs: number;
  readonly askedMs: number;
  readonly lockedAtMs: number;
  /** Null where a restart forgot why this worker was chosen. */
  readonly choice: Choice | null;
}

/** A job on its way to its node. Both times are null where the start window closed before a confirm: the sweep ends it. */
export interface Dispatched {
  readonly locked: Locked;
  readonly dispatchedAtMs: number | null;
  /** From receipt to confirm, in our hands. */
  readonly dispatchMs: number | null;
}

/** A reply and where it goes; `replyTo` was checked to be the sender's own. */
export interface AddressedReply {
  readonly replyTo: string;
  readonly correlationId: string | null;
  readonly message: ReplyMessage;
  /** Of a job, unless it says otherwise: whoever cancels one is answered apart from its sender. */
  readonly about?: 'job' | 'cancel';
  /** Tried once, and forgotten if its queue does not take it: nothing stands behind it but a refusal. */
  readonly isOnce?: true;
}

/** How a delivery leaves the line before its dispatch. One function maps it to an answer to the broker. */
export type Outcome =
  /** A coded no. `known` is set when the arbiter remembers it, and the request is then traced. */
  | {
      readonly kind: 'refused';
      readonly state: 'refused' | 'expired';
      readonly refusal: Refusal;
      readonly known: Known | null;
    }
  /** Beyond a limit: answered once. `event`: the key of the one event for all such refusals of the minute, null if it is written. */
  | { readonly kind: 'limited'; readonly refusal: Refusal; readonly event: string | null }
  /** Nobody may be answered: kept in the dead-letter queue with its reason. */
  | { readonly kind: 'dead'; readonly refusal: Refusal }
  /** No slot: back to the waiting room. */
  | { readonly kind: 'waiting' }
  /** A finished job asked for again: answered from its trace. */
  | { readonly kind: 'answered'; readonly reply: AddressedReply | null }
  /** Everything was done before, by us or by another coordinator: acknowledge. */
  | { readonly kind: 'done' }
  /** Its twin ended but the trace is not there yet: ask again after `delayMs`. */
  | { readonly kind: 'later'; readonly delayMs: number }
  /** The attempt could not be handed over and was given up; its row owes what follows. */
  | { readonly kind: 'given_up'; readonly locked: Locked }
  /** A server was away for too long: the broker keeps it. */
  | { readonly kind: 'requeued' };

/** A delivery that left the line, and how. */
export interface Exit {
  readonly arrival: Arrival;
  readonly outcome: Outcome;
}

/** What every stage gives back: those that go on, and those that left. */
export interface Split<T> {
  readonly on: readonly T[];
  readonly off: readonly Exit[];
}
