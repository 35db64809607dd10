import { machineMs } from '../measure/clock.ts';

/** One thing that is done as fast as it goes. */
export interface Load {
  /** Of its figure, without the `limits/` in front. */
  readonly id: string;
  readonly name: string;
  /** What one call does: jobs, documents, leases. */
  readonly perCall: number;
  /** Calls under way at a time: the next begins when one ends. */
  readonly lanes: number;
  /** Makes `count` calls ready, outside the clock. */
  prepare(count: number): Promise<readonly (() => Promise<unknown>)[]>;
  /** Undoes what the calls did, outside the clock. */
  undo?(): Promise<void>;
}

/** Things of one chunk; between chunks the clock stands. */
const CHUNK = 4_096;
/** Calls of one chunk of single things, so that a chunk of the slowest takes about a second at most. */
const CHUNK_CALLS_MAX = 1_024;

/** Things a second, over chunks that together took at least `windowMs`. Rejects with the first fault of a call. */
export async function rateOf(load: Load, windowMs: number): Promise<number> {
  const calls = Math.min(CHUNK_CALLS_MAX, Math.ceil(CHUNK / load.perCall));
  let ms = 0;
  let done = 0;
  while (ms < windowMs) {
    const ready = await load.prepare(calls);
    const startMs = machineMs();
    await inLanes(ready, load.lanes);
    ms += machineMs() - startMs;
    done += ready.length * load.perCall;
    await load.undo?.();
  }
  return (done * 1_000) / ms;
}

async function inLanes(calls: readonly (() => Promise<unknown>)[], lanes: number): Promise<void> {
  const waiting = calls.values();
  const lane = async (): Promise<void> => {
    for (const call of waiting) await call();
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}
