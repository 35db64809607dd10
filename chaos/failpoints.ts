import { setTimeout as sleep } from 'node:timers/promises';
import { StoreError } from '../src/errors.ts';

/** The server whose call fails at a point. */
type Store = ConstructorParameters<typeof StoreError>[0];

/** What may happen at a point. `fail_after`: the call is made and succeeds, and its caller is told that it failed. */
export type Action = 'kill' | 'throw' | 'hang' | 'fail_after';

/** Which moment of a call a point is: before it, with the request on its way and no answer yet, or with the answer in hand. */
type Moment = 'before' | 'during' | 'after';

/** What can be done at each moment without breaking the contract of the interface that is wrapped. */
const ACTIONS: Readonly<Record<Moment, readonly Action[]>> = {
  before: ['kill', 'throw', 'hang'],
  during: ['kill'],
  after: ['kill', 'hang', 'fail_after'],
};

/** The points of one call, by moment. */
export interface Site {
  readonly store: Store;
  /** Few calls come by: what waits there goes off at the first. */
  readonly isRare?: true;
  readonly before?: string;
  readonly during?: string;
  readonly after?: string;
}

/**
 * Every call of the two lines and the sweeps that touches a server, with the stable names of its moments. The comments of the
 * stages in `job-line.ts` and `result-line.ts` are the order.
 */
export const SITES = {
  look_up: { isRare: true, store: 'postgres', before: 'look_up.before_send', after: 'look_up.answered' },
  end_unlocked: {
    isRare: true,
    store: 'postgres',
    before: 'refuse.before_send',
    during: 'refuse.sent_no_reply',
    after: 'refuse.committed',
  },
  reserve: { store: 'redis', before: 'slot.reserve.before', after: 'slot.reserve.after' },
  lock: {
    store: 'postgres',
    before: 'lock.before_send',
    during: 'lock.sent_no_reply',
    after: 'lock.committed',
  },
  dispatch: {
    store: 'rabbitmq',
    before: 'dispatch.before_publish',
    during: 'dispatch.published_no_confirm',
    after: 'dispatch.confirmed',
  },
  trace_request: {
    store: 'mongodb',
    before: 'trace.request.before',
    during: 'trace.request.sent_no_reply',
    after: 'trace.request.after',
  },
  settle: {
    store: 'postgres',
    before: 'settle.before_send',
    during: 'settle.sent_no_reply',
    after: 'settle.committed',
  },
  release: { store: 'redis', before: 'slot.release.before', after: 'slot.release.after' },
  reply: {
    store: 'rabbitmq',
    before: 'reply.before_publish',
    during: 'reply.published_no_confirm',
    after: 'reply.confirmed',
  },
  trace_attempt: {
    store: 'mongodb',
    before: 'trace.attempt.before',
    during: 'trace.attempt.sent_no_reply',
    after: 'trace.attempt.after',
  },
  spool: {
    isRare: true,
    store: 'rabbitmq',
    before: 'spool.publish',
    during: 'spool.published_no_confirm',
    after: 'spool.confirmed',
  },
  give_up: {
    isRare: true,
    store: 'postgres',
    before: 'give_up.before_send',
    during: 'give_up.sent_no_reply',
    after: 'give_up.committed',
  },
  retry: {
    isRare: true,
    store: 'rabbitmq',
    before: 'retry.before_publish',
    during: 'retry.published_no_confirm',
    after: 'retry.confirmed',
  },
  resume: { isRare: true, store: 'postgres', before: 'resume.before_read', after: 'resume.read' },
  place: {
    isRare: true,
    store: 'postgres',
    before: 'place.before_send',
    during: 'place.sent_no_reply',
    after: 'place.committed',
  },
  trace_route: { store: 'mongodb', before: 'trace.route.before', after: 'trace.route.after' },
  claim: { isRare: true, store: 'postgres', before: 'retry.claim.before', after: 'retry.claimed' },
  clear_owed_attempts: {
    isRare: true,
    store: 'postgres',
    before: 'owed_attempt.done_not_cleared',
    after: 'owed_attempt.cleared',
  },
  overdue: { isRare: true, store: 'postgres', before: 'sweep.before_void', after: 'sweep.voided' },
  clear_owed: { isRare: true, store: 'postgres', before: 'owed.replied_not_cleared', after: 'owed.cleared' },
} as const satisfies Readonly<Record<string, Site>>;

/** Moments of a delivery, which are no calls: only a kill or a delay makes sense there. */
export const DELIVERY_POINTS = [
  'in.delivered',
  'in.before_ack',
  'in.acked',
  'result.delivered',
  'result.before_ack',
  'result.acked',
  'spool.drain.half',
] as const;

/** A point by its name, and what may be done there. */
export interface Point {
  readonly name: string;
  readonly actions: readonly Action[];
  /** Few calls come by. */
  readonly isRare: boolean;
}

const MOMENTS = ['before', 'during', 'after'] as const;

/** All of them. */
export const POINTS: readonly Point[] = [
  ...Object.values<Site>(SITES).flatMap((site) =>
    MOMENTS.flatMap((moment) => {
      const name = site[moment];
      const isRare = site.isRare === true;
      return name === undefined ? [] : [{ name, actions: ACTIONS[moment], isRare }];
    }),
  ),
  ...DELIVERY_POINTS.map((name) => ({ name, actions: ['kill'] as const, isRare: name.startsWith('spool.') })),
];

/** One fault that waits at a point: it happens at the `hits`-th time that a call comes by. */
export interface Armed {
  readonly point: string;
  readonly action: Action;
  readonly hits: number;
}

/** How long `hang` holds a call. Longer than a heartbeat, shorter than the patience of a stage. */
const HANG_MS = 5_000;

/** The failpoints of one process. At most one is armed; it goes off once. */
export class Failpoints {
  readonly #onFired: (armed: Armed) => void;
  readonly #die: () => void;
  #armed: Armed | null = null;
  #left = 0;

  /** `onFired` is told of what went off, except a kill, which leaves no time; `die` is for tests. */
  constructor(onFired: (armed: Armed) => void, die: () => void = () => process.kill(process.pid, 'SIGKILL')) {
    this.#onFired = onFired;
    this.#die = die;
  }

  /** Replaces what was armed; null disarms. */
  arm(armed: Armed | null): void {
    this.#armed = armed;
    this.#left = armed?.hits ?? 0;
  }

  /** Kills the process if a kill waits at `point`. */
  pass(point: string): void {
    if (this.#take(point) === 'kill') this.#die();
  }

  /**
   * Makes a call through the points of `site`. `unknown` is what its caller gets when it is told that the call failed; by
   * default a StoreError, which every caller must survive.
   */
  async around<T>(
    site: Site,
    call: () => Promise<T>,
    unknown: () => T = () => {
      throw new StoreError(site.store, 'a failpoint says so');
    },
  ): Promise<T> {
    const before = await this.#at(site.before);
    if (before === 'throw') return unknown();
    const answer = call();
    if (this.#take(site.during) === 'kill') {
      // amqplib gathers what is written until the turn ends: two turns later it is with the kernel.
      answer.catch(() => undefined);
      await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
      this.#die();
    }
    const value = await answer;
    return (await this.#at(site.after)) === 'fail_after' ? unknown() : value;
  }

  async #at(point: string | undefined): Promise<Action | null> {
    const action = this.#take(point);
    if (action === 'kill') this.#die();
    if (action === 'hang') await sleep(HANG_MS);
    return action;
  }

  #take(point: string | undefined): Action | null {
    const armed = this.#armed;
    if (armed === null || armed.point !== point) return null;
    this.#left -= 1;
    if (this.#left > 0) return null;
    this.#armed = null;
    if (armed.action !== 'kill') this.#onFired(armed);
    return armed.action;
  }
}
