import { creditsText } from '../credits.ts';

/** One look at the run. */
export interface Sample {
  readonly elapsedMs: number;
  readonly sent: number;
  readonly done: number;
  readonly total: number;
  /** Messages that came to an end in the last second. */
  readonly perSecond: number;
  readonly slotsUsed: number;
  readonly slotsTotal: number;
  readonly heldMicro: bigint;
}

const TTY_EVERY_MS = 250;
const LINE_EVERY_MS = 1_000;
/** Over so long the rate is taken. */
const RATE_MS = 1_000;

/** The line that is shown. Pure. */
export function progressLine(sample: Sample): string {
  const { elapsedMs, sent, done, total, perSecond, slotsUsed, slotsTotal, heldMicro } = sample;
  return [
    `${(elapsedMs / 1_000).toFixed(0).padStart(4)} s`,
    `${count(perSecond).padStart(5)}/s`,
    `${count(done)} of ${count(total)} done`,
    `${count(sent - done)} in flight`,
    `${slotsUsed} of ${slotsTotal} slots`,
    `${creditsText(heldMicro)} credits locked`,
  ].join('  ');
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** Where progress goes: standard error. */
export interface Terminal {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** Counts that grow, as they are now. */
export type Counts = Pick<Sample, 'sent' | 'done' | 'total'>;
/** What has to be asked for. */
export type Gauges = Pick<Sample, 'slotsUsed' | 'slotsTotal' | 'heldMicro'>;

/** Shows a run while it goes on: one line rewritten on a terminal, a line a second elsewhere. */
export class Progress {
  readonly #terminal: Terminal;
  readonly #nowMs: () => number;
  readonly #counts: () => Counts;
  readonly #ask: () => Promise<Gauges>;
  readonly #startMs: number;
  #history: { readonly atMs: number; readonly done: number }[] = [];
  #gauges: Gauges = { slotsUsed: 0, slotsTotal: 0, heldMicro: 0n };
  #isAsking = false;
  #timer: NodeJS.Timeout | null = null;
  #looks = 0;

  /** `nowMs` is monotonic. `ask` may fail: then the last answer stays. */
  constructor(terminal: Terminal, nowMs: () => number, counts: () => Counts, ask: () => Promise<Gauges>) {
    this.#terminal = terminal;
    this.#nowMs = nowMs;
    this.#counts = counts;
    this.#ask = ask;
    this.#startMs = nowMs();
  }

  start(): void {
    this.#timer = setInterval(() => this.#look(), this.#terminal.isTTY ? TTY_EVERY_MS : LINE_EVERY_MS);
  }

  /** Shows the end and stops. Idempotent. */
  stop(): void {
    if (this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
    this.#show();
    if (this.#terminal.isTTY) this.#terminal.write('\n');
  }

  #look(): void {
    this.#show();
    // The stores are asked once a second, whatever the terminal.
    if (this.#terminal.isTTY && this.#looks++ % (LINE_EVERY_MS / TTY_EVERY_MS) !== 0) return;
    if (this.#isAsking) return;
    this.#isAsking = true;
    void this.#refresh();
  }

  /** A server that does not answer just now leaves the last figures standing. */
  async #refresh(): Promise<void> {
    try {
      this.#gauges = await this.#ask();
    } catch {
      // The next look asks again.
    } finally {
      this.#isAsking = false;
    }
  }

  #show(): void {
    const nowMs = this.#nowMs();
    const counts = this.#counts();
    this.#history.push({ atMs: nowMs, done: counts.done });
    const [oldest] = this.#history.filter(({ atMs }) => atMs >= nowMs - RATE_MS * 1.5);
    this.#history = this.#history.filter(({ atMs }) => atMs >= nowMs - RATE_MS * 1.5);
    const overMs = nowMs - (oldest?.atMs ?? nowMs);
    const perSecond = overMs > 0 ? ((counts.done - (oldest?.done ?? 0)) * 1_000) / overMs : 0;
    const line = progressLine({ ...counts, ...this.#gauges, perSecond, elapsedMs: nowMs - this.#startMs });
    if (this.#terminal.isTTY)
      this.#terminal.write(`\r\u001b[2K${line.slice(0, (this.#terminal.columns ?? 100) - 1)}`);
    else this.#terminal.write(`${line}\n`);
  }
}
