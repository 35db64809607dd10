import { runUntilSignal } from '../ops/lifecycle.ts';
import type { Log } from '../ops/types.ts';

/**
 * Starts something and stops it on the first SIGTERM or SIGINT, also on one that comes while it starts: `start` is told by
 * its signal, and what it then still starts is stopped. Rejects with what `start` rejected with, unless it was told to end.
 */
export async function runService(
  start: (signal: AbortSignal) => Promise<{ stop(): Promise<void>; left?(): object }>,
  log: Log,
): Promise<void> {
  const stopping = new AbortController();
  const failed = new AbortController();
  let started: { left?(): object } | null = null;
  const starting = start(stopping.signal).then((service) => (started = service));
  starting.catch(() => failed.abort());
  let isTold = false;
  const stop = async (): Promise<void> => {
    isTold = !failed.signal.aborted;
    stopping.abort();
    const service = await starting.catch(() => null);
    await service?.stop();
  };
  await runUntilSignal(stop, log, { signal: failed.signal, left: () => started?.left?.() ?? {} });
  if (!isTold) await starting;
}
