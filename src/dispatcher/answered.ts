import { invariant } from '../errors.ts';

/** Every question of a batch with its answer, in order. A store that answers another number of times has broken its promise. */
export function answered<Q, A>(questions: readonly Q[], answers: readonly A[]): [Q, A][] {
  invariant(questions.length === answers.length, `asked ${questions.length}, answered ${answers.length}`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- As many answers as questions: there is one at every place.
  return questions.map((question, i) => [question, answers[i] as A]);
}
