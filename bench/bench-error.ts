/** Why the bench cannot go on, in words that need no stack: `main.ts` prints the message and exits with status 1. */
export class BenchError extends Error {
  override readonly name: string = 'BenchError';
}

/** A server promises less than the report would claim: no suite measures on it. */
export class WeakSettingError extends BenchError {
  override readonly name = 'WeakSettingError';
}
