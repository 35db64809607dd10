import { constants } from 'node:os';
import { TollgateError } from '../errors.ts';
import { type Stack, type StackOptions, startStack } from './stack.ts';

const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs `work` on servers of its own and ends them afterwards, also when it throws. When the process is asked to end by a
 * signal, `asked` aborts, everything is ended at once, what `stack.adopt` was given included, and the process exits with 128 +
 * the signal's number: for programs whose data goes with them (demo, tests, bench). Progress goes to standard error, and so
 * does what to do when a server is missing or does not start; the process exits 1 then.
 */
export async function withStack<T>(
  work: (stack: Stack, asked: AbortSignal) => Promise<T>,
  options: Omit<StackOptions, 'signal'> = {},
): Promise<T> {
  const asked = new AbortController();
  let stack: Stack | undefined;
  const starting = startStack({ onProgress: toStandardError, ...options, signal: asked.signal });
  const end = (name: (typeof ENDING)[number]): void => {
    asked.abort();
    const ended = starting.then(
      async (started) => await started.stop(),
      () => undefined,
    );
    void ended.finally(() => process.exit(128 + constants.signals[name]));
  };
  for (const name of ENDING) process.once(name, end);
  try {
    stack = await starting;
    return await work(stack, asked.signal);
  } catch (error) {
    // The servers were taken away from under it; `end` is about to exit.
    if (asked.signal.aborted) await new Promise(() => {});
    // What a person is to do about it, without the stack of calls that found it.
    if (stack === undefined && error instanceof TollgateError) {
      toStandardError(error.message);
      process.exit(1);
    }
    throw error;
  } finally {
    await stack?.stop();
    for (const name of ENDING) process.off(name, end);
  }
}

function toStandardError(line: string): void {
  process.stderr.write(`${line}\n`);
}
