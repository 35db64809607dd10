/** How a delivery was answered. */
export type Verdict = 'acknowledge' | 'requeue';

/** Sends one answer to the broker: for `tag`, or for every unanswered tag up to and including it. */
export type SendAnswer = (verdict: Verdict, tag: number, isMultiple: boolean) => void;

const OPEN = 0;
const ACKNOWLEDGED = 1;
const REQUEUED = 2;
const SENT = 3;
type State = typeof OPEN | typeof ACKNOWLEDGED | typeof REQUEUED | typeof SENT;

/**
 * Gathers the answers of one channel and sends them once per turn of the event loop. Delivery tags count from 1 without
 * gaps. The finished prefix goes out as one frame per run of equal verdicts, usually a single multiple-ack; what is
 * finished behind a delivery that is still held goes out one by one, in order, so that a requeue keeps the queue's order.
 */
export class Answers {
  readonly #send: SendAnswer;
  /** State by tag, from `#firstTag`, which is the lowest tag that is not in an answered prefix. */
  #states: State[] = [];
  #firstTag = 1;
  /** Tags answered since the last flush. */
  #turn: number[] = [];
  #flushing: NodeJS.Immediate | null = null;
  #isLive = true;

  constructor(send: SendAnswer) {
    this.#send = send;
  }

  /** False once the channel is gone. */
  get isLive(): boolean {
    return this.#isLive;
  }

  /** Deliveries not answered yet. */
  get open(): number {
    let open = 0;
    for (const state of this.#states) if (state === OPEN) open += 1;
    return open;
  }

  /** Notes a delivery; tags come in order. */
  delivered(tag: number): void {
    this.#states[tag - this.#firstTag] = OPEN;
  }

  /** Answers a delivery, once; a second answer, and any after `end`, does nothing. */
  answer(tag: number, verdict: Verdict): void {
    const position = tag - this.#firstTag;
    if (!this.#isLive || this.#states[position] !== OPEN) return;
    this.#states[position] = verdict === 'acknowledge' ? ACKNOWLEDGED : REQUEUED;
    this.#turn.push(tag);
    this.#flushing ??= setImmediate(() => this.flush());
  }

  /** Sends what was answered. */
  flush(): void {
    if (this.#flushing !== null) clearImmediate(this.#flushing);
    this.#flushing = null;
    if (!this.#isLive || this.#turn.length === 0) return;
    const turn = this.#turn.toSorted((a, b) => a - b);
    this.#turn = [];
    this.#sendPrefix();
    for (const tag of turn) {
      if (tag >= this.#firstTag) this.#sendSingle(tag);
    }
  }

  /** The channel is gone: the broker will deliver again what was not answered. */
  end(): void {
    this.#isLive = false;
    if (this.#flushing !== null) clearImmediate(this.#flushing);
    this.#states = [];
    this.#turn = [];
  }

  /**
   * One frame for each run of equal verdicts. It must name a tag that the broker still waits for (an answered one is
   * a 406 that closes the channel), so a run's frame names its last tag that was not sent before.
   */
  #sendPrefix(): void {
    const states = this.#states;
    let length = 0;
    let run: typeof ACKNOWLEDGED | typeof REQUEUED | null = null;
    let runEnd = 0;
    for (; length < states.length; length++) {
      const state = states[length];
      if (state === undefined || state === OPEN) break;
      if (state === SENT) continue;
      if (run !== null && run !== state) this.#send(verdictOf(run), runEnd, true);
      run = state;
      runEnd = this.#firstTag + length;
    }
    if (run !== null) this.#send(verdictOf(run), runEnd, true);
    states.splice(0, length);
    this.#firstTag += length;
  }

  #sendSingle(tag: number): void {
    const position = tag - this.#firstTag;
    const state = this.#states[position];
    if (state !== ACKNOWLEDGED && state !== REQUEUED) return;
    this.#states[position] = SENT;
    this.#send(verdictOf(state), tag, false);
  }
}

function verdictOf(state: typeof ACKNOWLEDGED | typeof REQUEUED): Verdict {
  return state === ACKNOWLEDGED ? 'acknowledge' : 'requeue';
}
