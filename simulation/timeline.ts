import { createHash } from 'node:crypto';
import { Random } from '../chaos/random.ts';
import type { Clock } from '../src/clock.ts';

/** Virtual wall-clock time at which every seed begins, in ms since 1970. */
export const EPOCH_MS = 1_790_000_000_000;

/** Lines of the log that a report shows. */
const LINES_KEPT = 400;

interface Pending {
  readonly atMs: number;
  /** Decides between events of the same moment. */
  readonly lot: number;
  readonly order: number;
  readonly run: () => void;
}

/**
 * Virtual time: everything that can happen waits here, and the seed decides what comes next. Between two events the microtasks of
 * the first run out, so whatever the code under test awaits is either one of these events or done at once.
 */
export class Timeline {
  readonly random: Random;
  readonly #heap: Pending[] = [];
  readonly #lines: string[] = [];
  readonly #hash = createHash('sha256');
  #nowMs = 0;
  #order = 0;
  #events = 0;

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  /** Milliseconds since the seed began. */
  get nowMs(): number {
    return this.#nowMs;
  }

  /** Events that have happened. */
  get events(): number {
    return this.#events;
  }

  /** The newest lines of the log, oldest first. */
  get lines(): readonly string[] {
    return this.#lines.slice(-LINES_KEPT);
  }

  /** SHA-256 of the whole log: the same seed gives the same. Ends the log. */
  digest(): string {
    return this.#hash.digest('hex');
  }

  /** Lets `run` happen in `delayMs`. */
  at(delayMs: number, run: () => void): void {
    const one = {
      atMs: this.#nowMs + Math.max(0, delayMs),
      lot: this.random.share(),
      order: this.#order++,
      run,
    };
    this.#heap.push(one);
    rise(this.#heap);
  }

  /** One line of the log. */
  note(line: string): void {
    const text = `${this.#nowMs.toFixed(2).padStart(10)} ${line}`;
    this.#hash.update(text);
    this.#lines.push(text);
    if (this.#lines.length > LINES_KEPT * 2) this.#lines.splice(0, LINES_KEPT);
  }

  /** Runs events until virtual time `untilMs`, or until `isOver` says so, which is asked after each. */
  async run(untilMs: number, isOver: () => boolean): Promise<void> {
    for (;;) {
      const [next] = this.#heap;
      if (next === undefined || next.atMs > untilMs) break;
      take(this.#heap);
      this.#nowMs = next.atMs;
      this.#events += 1;
      next.run();
      await turn();
      if (isOver()) return;
    }
    this.#nowMs = Math.max(this.#nowMs, untilMs);
  }

  /** A clock of one process: its timers ring only while `isAlive`. */
  clock(isAlive: () => boolean): Clock {
    const after: Clock['after'] = (ms, call) => {
      let isOn = true;
      this.at(ms, () => {
        if (isOn && isAlive()) call();
      });
      return () => {
        isOn = false;
      };
    };
    return {
      nowMs: () => EPOCH_MS + this.#nowMs,
      monotonicMs: () => this.#nowMs,
      after,
      every: (ms, call) => {
        let isOn = true;
        const ring = () => {
          if (!isOn || !isAlive()) return;
          call();
          this.at(ms, ring);
        };
        this.at(ms, ring);
        return () => {
          isOn = false;
        };
      },
      sleep: (ms) => new Promise((resolve) => void after(ms, resolve)),
      soon: (call) => void after(0, call),
    };
  }
}

/** Resolves when every microtask has run. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function isBefore(a: Pending, b: Pending): boolean {
  if (a.atMs !== b.atMs) return a.atMs < b.atMs;
  return a.lot === b.lot ? a.order < b.order : a.lot < b.lot;
}

function rise(heap: Pending[]): void {
  for (let i = heap.length - 1; i > 0; ) {
    const parent = (i - 1) >> 1;
    if (!swapIfBefore(heap, i, parent)) return;
    i = parent;
  }
}

function take(heap: Pending[]): void {
  const last = heap.pop();
  if (last === undefined || heap.length === 0) return;
  heap[0] = last;
  for (let i = 0; ; ) {
    const left = 2 * i + 1;
    const right = heap[left + 1];
    const other = heap[left];
    if (other === undefined) return;
    const child = right !== undefined && isBefore(right, other) ? left + 1 : left;
    if (!swapIfBefore(heap, child, i)) return;
    i = child;
  }
}

function swapIfBefore(heap: Pending[], lower: number, upper: number): boolean {
  const below = heap[lower];
  const above = heap[upper];
  if (below === undefined || above === undefined || !isBefore(below, above)) return false;
  heap[lower] = above;
  heap[upper] = below;
  return true;
}
