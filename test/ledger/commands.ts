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
    const operation = this.#draft.prepare(scene, model.state);
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
    const [one, other] = [
      this.#drafts[0].prepare(scene, model.state),
      this.#drafts[1].prepare(scene, model.state),
    ];
    const [a, b] = await Promise.all([one.run(coordinators[0]), other.run(coordinators[1])]);
    const seen = textOf([...a, '|', ...b]);
    const ways = waysOf(model.state, one, other, a, b).map((way) => ({
      ...way,
      text: textOf([...way.a, '|', ...way.b]),
    }));
    const found = ways.find(({ text }) => text === seen);
    if (found === undefined) {
      const possible = ways.map(({ text }) => `\n  possible ${text}`);
      throw new Error(`${this.toString()}: no order explains\n           ${seen}${possible.join('')}`);
    }
    model.state = found.state;
    await checkInvariants(ledger, model.state);
  }

  toString(): string {
    return `${this.#drafts[0].text} ‖ ${this.#drafts[1].text}`;
  }
}

/** A state after two calls, and what they answered. */
interface Way {
  readonly state: LedgerModel;
  readonly a: readonly string[];
  readonly b: readonly string[];
}

/** What the two may have done: one after the other, or one around the other. */
function waysOf(
  before: LedgerModel,
  one: Operation,
  other: Operation,
  a: readonly string[],
  b: readonly string[],
): Way[] {
  const ways: Way[] = [];
  const add = (make: (state: LedgerModel) => Omit<Way, 'state'>): void => {
    const state = copyOf(before);
    ways.push({ ...make(state), state });
  };
  add((state) => ({ a: one.apply(state), b: other.apply(state) }));
  add((state) => {
    const first = other.apply(state);
    return { a: one.apply(state), b: first };
  });
  if (one.applyAround)
    add((state) => wrapped(state, one, a, other, (outer, inner) => ({ a: outer, b: inner })));
  if (other.applyAround)
    add((state) => wrapped(state, other, b, one, (outer, inner) => ({ a: inner, b: outer })));
  return ways;
}

function wrapped<T>(
  state: LedgerModel,
  outer: Operation,
  seen: readonly string[],
  inner: Operation,
  join: (outer: readonly string[], inner: readonly string[]) => T,
): T {
  let answers: readonly string[] = [];
  const around = outer.applyAround?.(state, seen, () => {
    answers = inner.apply(state);
  });
  return join(around ?? [], answers);
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
