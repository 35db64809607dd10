import type { KeyObject } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../clock.ts';
import { bodyDigest } from '../contracts/canonical.ts';
import { jobKey } from '../contracts/names.ts';
import { newUuidV7 } from '../ids.ts';
import { type Clients, clientOf } from './clients.ts';
import { type Draft, FLAWS, type Flaw, spoiled } from './flaws.ts';
import type { Prediction, PredictionLog } from './predictions.ts';
import type { Prompts } from './prompts.ts';
import { jobOf, type Scenario, type ScenarioMessage } from './scenario.ts';
import type { SeenReply } from './verdict.ts';
import type { World } from './world.ts';

/** How often it looks what is due, in milliseconds. */
const TICK_MS = 5;
/** Messages without an answer at a time; beyond it the load waits, so that no job waits longer than its `wait_ms`. */
const UNANSWERED_MAX = 5_000;
/** When everything is sent and nothing has been answered for this long, nothing more will come. */
const SILENCE_MS_MAX = 45_000;

/** What the generator is made of. */
export interface GeneratorDeps {
  readonly world: World;
  readonly scenario: Scenario;
  readonly prompts: Prompts;
  readonly clients: Clients;
  readonly log: PredictionLog;
  /** Key of the body digests, by which PostgreSQL's rows are asked for afterwards. */
  readonly digestKey: KeyObject;
  readonly clock: Clock;
}

/** How far it is. */
export interface GeneratorState {
  readonly total: number;
  readonly sent: number;
  /** Messages that have come to an end. */
  readonly done: number;
  /** How far behind its schedule the load ever was, in milliseconds. */
  readonly lagMsMax: number;
}

/** What PostgreSQL is asked by: the body that made a job's row, if there is one. */
export interface SentJob {
  readonly account: string;
  readonly digest: Buffer;
}

/**
 * Publishes a scenario at its moments, an open loop: it does not wait for answers, but for the few messages that repeat a job
 * after its end, and unless 5,000 are without an answer. Every message is in its log before it is published.
 */
export class Generator {
  readonly #deps: GeneratorDeps;
  /** The next message of the scenario that is not due yet. */
  #next = 0;
  /** Due, and waiting for the first answer of another one, by its `seq`. */
  readonly #blocked = new Map<number, ScenarioMessage[]>();
  /** No longer blocked. */
  #released: ScenarioMessage[] = [];
  /** Job ids by the scenario's numbers. */
  readonly #ids = new Map<number, string>();
  readonly #jobs = new Map<string, SentJob>();
  readonly #sent = new Set<number>();
  /** Messages that came to an end: answered, or confirmed where no answer is to come. */
  readonly #done = new Set<number>();
  readonly #replies = new Map<number, SeenReply[]>();
  readonly #strays: SeenReply[] = [];
  /** One reply serves both: the same body sent twice at once. */
  readonly #twins = new Map<number, number>();
  readonly #publishing = new Set<Promise<void>>();
  #failure: Error | null = null;
  #lagMsMax = 0;
  #lastMs = 0;

  constructor(deps: GeneratorDeps) {
    this.#deps = deps;
    const first = new Map<number, number>();
    for (const { job, seq, kind } of deps.scenario.messages) {
      const other = first.get(job);
      if (other === undefined) first.set(job, seq);
      else if (kind === 'twin') this.#twins.set(seq, other).set(other, seq);
    }
  }

  get state(): GeneratorState {
    const total = this.#deps.scenario.messages.length;
    return { total, sent: this.#sent.size, done: this.#done.size, lagMsMax: this.#lagMsMax };
  }

  /** By `seq`. */
  get replies(): ReadonlyMap<number, readonly SeenReply[]> {
    return this.#replies;
  }

  /** Replies that belong to no message. */
  get strayReplies(): readonly SeenReply[] {
    return this.#strays;
  }

  /** Every job that was sent, by id. */
  get jobs(): ReadonlyMap<string, SentJob> {
    return this.#jobs;
  }

  /** Takes a reply; `seq` is its correlation id. */
  take(seq: number, reply: SeenReply): void {
    this.#lastMs = this.#deps.clock.monotonicMs();
    if (!this.#sent.has(seq)) {
      this.#strays.push(reply);
      return;
    }
    const known = this.#replies.get(seq);
    if (known === undefined) this.#replies.set(seq, [reply]);
    else known.push(reply);
    this.#end(seq);
    const twin = this.#twins.get(seq);
    if (twin !== undefined) this.#end(twin);
  }

  /** Everything that was written into the log, read back from it: the run is over. */
  predictions(): Promise<Prediction[]> {
    return this.#deps.log.readBack();
  }

  /** Sends everything and waits for its end, or until nothing has come for long. Rejects when the broker takes no message. */
  async run(): Promise<void> {
    const { clock } = this.#deps;
    const startMs = clock.monotonicMs();
    this.#lastMs = startMs;
    while (!this.#isComplete && !this.#isSilent) {
      const due = this.#takeDue(clock.monotonicMs() - startMs);
      if (due.length > 0) await this.#send(due);
      if (this.#failure !== null) throw this.#failure;
      await sleep(TICK_MS);
    }
    await Promise.all(this.#publishing);
  }

  get #isComplete(): boolean {
    return this.#done.size === this.#deps.scenario.messages.length;
  }

  /** Nothing more will come, or what was sent is not answered any more. */
  get #isSilent(): boolean {
    const isWaiting = this.#next === this.#deps.scenario.messages.length || this.#room <= 0;
    return isWaiting && this.#deps.clock.monotonicMs() - this.#lastMs > SILENCE_MS_MAX;
  }

  get #room(): number {
    return UNANSWERED_MAX - (this.#sent.size - this.#done.size);
  }

  /** What is to be sent now, in order. */
  #takeDue(elapsedMs: number): ScenarioMessage[] {
    const { messages } = this.#deps.scenario;
    const due = this.#released;
    this.#released = [];
    let room = this.#room - due.length;
    for (; room > 0; this.#next++) {
      const message = messages[this.#next];
      if (message === undefined || message.atMs > elapsedMs) break;
      if (message.after === null || this.#done.has(message.after)) {
        this.#lagMsMax = Math.max(this.#lagMsMax, elapsedMs - message.atMs);
        due.push(message);
        room -= 1;
      } else {
        const blocked = this.#blocked.get(message.after);
        if (blocked === undefined) this.#blocked.set(message.after, [message]);
        else blocked.push(message);
      }
    }
    return due;
  }

  /** Writes the log, then publishes without waiting for the broker: what is due next must not wait for its confirms. */
  async #send(messages: readonly ScenarioMessage[]): Promise<void> {
    const { log, clients } = this.#deps;
    const made = messages.map((message) => this.#make(message));
    await log.append(made.map(({ prediction }) => prediction));
    for (const message of messages) this.#sent.add(message.seq);
    const byClient = Map.groupBy(made, ({ message, draft }) => clientOf(message.publisher, draft));
    for (const group of byClient.values()) {
      const publisher = group[0]?.message.publisher ?? '';
      const drafts = group.map(({ message, draft }) => ({ ...draft, seq: message.seq }));
      const publishing = clients
        .publish(publisher, drafts)
        .then(
          () => this.#endUnanswered(group.map(({ message }) => message)),
          (error: unknown) => {
            this.#failure ??= error instanceof Error ? error : new Error(String(error));
          },
        )
        .finally(() => this.#publishing.delete(publishing));
      this.#publishing.add(publishing);
    }
  }

  #make(message: ScenarioMessage): { message: ScenarioMessage; draft: Draft; prediction: Prediction } {
    const { clock, clients, digestKey, prompts, world } = this.#deps;
    const flaw: Flaw | null = message.flaw === null ? null : FLAWS[message.flaw];
    const id = this.#ids.get(message.job) ?? (flaw?.id ?? same)(newUuidV7(clock));
    const job = jobOf(message, id, prompts.text(message.promptStart, message.promptTokens));
    if (!this.#ids.has(message.job)) {
      this.#ids.set(message.job, id);
      const body = flaw?.body?.(job, world) ?? job;
      const digest = bodyDigest(digestKey, Buffer.isBuffer(body) ? job : body);
      this.#jobs.set(id, { account: message.account, digest });
    }
    const draft: Draft = {
      body: Buffer.from(JSON.stringify(job)),
      routingKey: jobKey(job.model, job.priority),
      messageId: id,
      expirationMs: job.limits.wait_ms,
      replyTo: '',
      sender: 'publisher',
    };
    const spoilt = spoiled(draft, job, flaw, world);
    const replyTo =
      spoilt.replyTo === '' ? clients.replyQueue(message.publisher, spoilt.sender) : spoilt.replyTo;
    const { seq, kind, account, publisher, expected } = message;
    const prediction = { seq, job: id, kind, flaw: message.flaw, account, publisher, ...expected };
    return { message, draft: { ...spoilt, replyTo }, prediction: { ...prediction, at_ms: clock.nowMs() } };
  }

  /** What nobody is answered for has come to its end for us when the broker has it. */
  #endUnanswered(messages: readonly ScenarioMessage[]): void {
    for (const { seq, expected } of messages) if (expected.state === 'dead') this.#end(seq);
  }

  #end(seq: number): void {
    this.#done.add(seq);
    this.#released.push(...(this.#blocked.get(seq) ?? []));
    this.#blocked.delete(seq);
  }
}

function same(id: string): string {
  return id;
}
