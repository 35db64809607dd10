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

/** The owner that ends with `stack`; `asked` aborts when the bench is asked to end. */
export function ownerOf(stack: Stack, asked: AbortSignal, fail: (error: Error) => void): Owner {
  return {
    adopt: (pid) => stack.adopt(pid),
    fail: (error) => {
      if (!asked.aborted) fail(error);
    },
    get isEnding() {
      return asked.aborted;
    },
  };
}
