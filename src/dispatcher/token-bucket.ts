/** Lets `rate` pass in a second on average, and `burst` at once. Both are given with each take, so they may change meanwhile. */
export class TokenBucket {
  #tokens: number;
  #atMs: number;

  /** Full at `nowMs` (monotonic). */
  constructor(burst: number, nowMs: number) {
    this.#tokens = burst;
    this.#atMs = nowMs;
  }

  /** Takes one; 0 if there was one, else how many milliseconds until there will be. `rate` is per second and above 0. */
  take(rate: number, burst: number, nowMs: number): number {
    const perMs = rate / 1_000;
    this.#tokens = Math.min(burst, this.#tokens + (nowMs - this.#atMs) * perMs);
    this.#atMs = nowMs;
    if (this.#tokens < 1) return (1 - this.#tokens) / perMs;
    this.#tokens -= 1;
    return 0;
  }
}
