import type { Stack } from '../../src/stack/stack.ts';

/** Who the processes of a bench belong to. */
export interface Owner {
  /** This process ends with the servers, at the latest. */
  adopt(pid: number): void;
  /** Ends the bench with this error: what happened makes its figures worthless. The first one counts. */
  fail(error: Error): void;
  /** True once the bench was asked to end: then its processes are ended by the stack, in any order. */
  readonly isEnding: boolean;
}

/** The owner that ends with `stack`, which a signal ends too. */
export function ownerOf(stack: Stack, fail: (error: Error) => void): Owner {
  let isEnding = false;
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(name, () => {
      isEnding = true;
    });
  }
  return {
    adopt: (pid) => stack.adopt(pid),
    fail: (error) => {
      if (!isEnding) fail(error);
    },
    get isEnding() {
      return isEnding;
    },
  };
}
