import type { Config } from '../../src/config-schema.ts';
import type { JobMessage } from '../../src/contracts/job.ts';
import { machineMs } from '../measure/clock.ts';
import { serveParent } from '../process/child.ts';
import { makeJobMessages } from '../world/jobs.ts';
import type { Contest, Setting } from './settings.ts';
import { Steps } from './steps.ts';

/** Where a peer keeps its jobs: the same servers that the steps use. */
export interface PeerPlace {
  /** A login that may make a schema of the peer's own. */
  readonly postgresAdminUrl: string;
  readonly redisUrl: string;
}

/** One other queue, as its documentation shows it. */
export interface PeerQueue {
  /** Connects and makes what it keeps its jobs in. */
  open(place: PeerPlace): Promise<void>;
  /** Adds jobs, all at once. */
  fill(jobs: readonly JobMessage[]): Promise<void>;
  /** Takes jobs from now on; the machine's time from which it does. */
  begin(setting: Setting, handle: (jobs: readonly JobMessage[]) => Promise<void>): Promise<number>;
  /** Takes no more, completes what was handled, and resolves with the jobs that are not complete; forgets those that are. */
  end(): Promise<number>;
}

/** When the first handler was due to be called, and when the last one was done, on the machine's clock. */
export interface Handled {
  readonly startMs: number;
  readonly lastMs: number;
}

/** What the bench may ask of a peer's process. */
function methodsOf(queue: PeerQueue) {
  let steps: Steps | null = null;
  let startMs = Number.NaN;
  let done = Promise.withResolvers<number>();

  const handlerOf = ({ variant, setting, jobs }: Contest & { readonly jobs: number }) => {
    const ready = steps;
    if (ready === null) throw new Error('not open');
    const { areLocksBatched } = setting;
    const work: Readonly<Record<Contest['variant'], (own: readonly JobMessage[]) => Promise<void>>> = {
      'same steps': (own) => ready.all(own, areLocksBatched),
      'lock only': (own) => ready.lock(own, areLocksBatched),
      'no-op': () => Promise.resolve(),
    };
    const step = work[variant];
    let handled = 0;
    return async (own: readonly JobMessage[]): Promise<void> => {
      try {
        await step(own);
      } catch (error) {
        // The queue would try the job again; what is measured has no faults.
        done.reject(error);
        throw error;
      }
      handled += own.length;
      if (handled === jobs) done.resolve(machineMs());
    };
  };

  return {
    async open({ config, place }: { config: Config; place: PeerPlace }): Promise<void> {
      steps = new Steps(config);
      await steps.start();
      await queue.open(place);
    },
    /** Adds `count` jobs of the same kind as everybody's. */
    fill: (count: number): Promise<void> => queue.fill(makeJobMessages(count).map(({ job }) => job)),
    async begin(contest: Contest & { readonly jobs: number }): Promise<void> {
      done = Promise.withResolvers();
      // Heard by whoever asks `handled`; a fault before that must not end the process without a word.
      done.promise.catch(() => undefined);
      startMs = await queue.begin(contest.setting, handlerOf(contest));
    },
    /** Resolves when as many jobs as expected were handled. */
    handled: async (): Promise<Handled> => ({ lastMs: await done.promise, startMs }),
    /** Jobs that are not complete, and slots that were given back. */
    async end(): Promise<{ left: number; released: number }> {
      return { left: await queue.end(), released: (await steps?.giveBack()) ?? 0 };
    },
  };
}

/** A peer process's methods, for `Child`. */
export type PeerMethods = ReturnType<typeof methodsOf>;

/** Answers the bench for one peer. For the main module of a child. */
export function servePeer(queue: PeerQueue): void {
  serveParent<PeerMethods>(methodsOf(queue));
}
