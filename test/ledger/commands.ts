import * as fc from 'fast-check';
import type { TestLedger } from '../support/ledger.ts';
import { checkInvariants, same } from './invariants.ts';
import { copyOf, type LedgerModel } from './model.ts';
import { type Coordinator, type Draft, DRAFTS, type Operation, RACERS, type Scene } from './operations.ts';

/** The real side of one run. */
export interface LedgerRun {
  readonly ledger: TestLedger;
  readonly scene: Scene;
  readonly coordinators: readonly [Coordinator, Coordinator];
}

/** The model of one run; commands put another state in its place. */
export interface ModelRun {
  state: LedgerModel;
}

type LedgerCommand = fc.AsyncCommand<ModelRun, LedgerRun>;

function textOf(answers: readonly string[]): string {
  return answers.join('\n           ');
}

/** One call of one of the two coordinators. */
class Call implements LedgerCommand {
  readonly #draft: Draft;
  readonly #side: 0 | 1;

  constructor(draft: Draft, side: 0 | 1) {
    this.#draft = draft;
    this.#side = side;
  }

  check(): boolean {
    return true;
  }

  async run(model: ModelRun, { ledger, scene, coordinators }: LedgerRun): Promise<void> {
    const operation = this.#draft.prepare(scene);
    const answers = await operation.run(coordinators[this.#side]);
    same(textOf(answers), textOf(operation.apply(model.state)), this.#draft.text);
    await checkInvariants(ledger, model.state);
  }

  toString(): string {
    return this.#draft.text;
  }
}

/** Two calls at the same moment, one of each coordinator: what they did must be what they would have done in some order. */
class Race implements LedgerCommand {
  readonly #drafts: readonly [Draft, Draft];

  constructor(one: Draft, other: Draft) {
    this.#drafts = [one, other];
  }

  check(): boolean {
    return true;
  }

  async run(model: ModelRun, { ledger, scene, coordinators }: LedgerRun): Promise<void> {
    const [one, other] = [this.#drafts[0].prepare(scene), this.#drafts[1].prepare(scene)];
    const [a, b] = await Promise.all([one.run(coordinators[0]), other.run(coordinators[1])]);
    const seen = textOf([...a, '|', ...b]);
    const orders = [inOrder(model.state, one, other), inOrder(model.state, other, one)];
    const found = orders.find(
      (order) => textOf([...order.answersOf(one), '|', ...order.answersOf(other)]) === seen,
    );
    if (found === undefined) {
      const [first, second] = orders.map((order) =>
        textOf([...order.answersOf(one), '|', ...order.answersOf(other)]),
      );
      throw new Error(
        `${this.toString()}: no order explains\n           ${seen}\n  one way  ${first}\n  other    ${second}`,
      );
    }
    model.state = found.state;
    await checkInvariants(ledger, model.state);
  }

  toString(): string {
    return `${this.#drafts[0].text} ‖ ${this.#drafts[1].text}`;
  }
}

function inOrder(before: LedgerModel, ...operations: readonly Operation[]) {
  const state = copyOf(before);
  const answers = new Map(operations.map((operation) => [operation, operation.apply(state)]));
  return { state, answersOf: (operation: Operation) => answers.get(operation) ?? [] };
}

/** Lets the deadline of a job pass: time is PostgreSQL's, so its row is told so. */
class Pass implements LedgerCommand {
  readonly #back: number;

  constructor(back: number) {
    this.#back = back;
  }

  check({ state }: Readonly<ModelRun>): boolean {
    return state.jobs.size > 0;
  }

  async run({ state }: ModelRun, { ledger, scene }: LedgerRun): Promise<void> {
    const id = scene.asked.at(-1 - this.#back)?.jobId ?? '';
    const job = state.jobs.get(id);
    if (job?.state !== 'locked') return;
    job.isOverdue = true;
    await ledger.sql(`update jobs.jobs set deadline = now() - interval '1 s' where id = $1`, [id]);
  }

  toString(): string {
    return `the deadline of ${this.#back} passes`;
  }
}

const side = fc.constantFrom(0, 1);
const call = fc
  .tuple(fc.oneof(...DRAFTS), side)
  .map(([draft, which]) => new Call(draft, which === 0 ? 0 : 1));
const race = fc.tuple(fc.oneof(...RACERS), fc.oneof(...RACERS)).map(([one, other]) => new Race(one, other));
const pass = fc.nat({ max: 8 }).map((back) => new Pass(back));

/** Sequences of at most `maxCommands` commands: two thirds single calls, the rest races and deadlines that pass. */
export function ledgerCommands(maxCommands: number) {
  const all: fc.Arbitrary<LedgerCommand>[] = [call, call, call, call, race, race, pass];
  return fc.commands(all, { maxCommands, size: 'max' });
}
