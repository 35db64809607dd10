import { invariant } from '../errors.ts';

/** Pairs every question of a batch with its answer. A store that answers another number of times has broken its promise. */
export function* answered<Q, A>(questions: readonly Q[], answers: readonly A[]): Generator<[Q, A]> {
  invariant(questions.length === answers.length, `asked ${questions.length}, answered ${answers.length}`);
  const rest = answers[Symbol.iterator]();
  for (const question of questions) {
    const { value, done } = rest.next();
    if (done) return;
    yield [question, value];
  }
}
