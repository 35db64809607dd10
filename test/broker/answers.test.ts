import * as fc from 'fast-check';
import t from 'tap';
import { Answers, type Verdict } from '../../src/broker/answers.ts';
import { until } from '../support/until.ts';

type Frame = readonly [verdict: Verdict, tag: number, isMultiple: boolean];

function recorded(count: number): { answers: Answers; frames: Frame[] } {
  const frames: Frame[] = [];
  const answers = new Answers((...frame) => frames.push(frame));
  for (let tag = 1; tag <= count; tag++) answers.delivered(tag);
  return { answers, frames };
}

await t.test('a finished prefix is one multiple answer, and what is behind a held one goes singly', (t) => {
  const { answers, frames } = recorded(8);
  for (const tag of [3, 1, 2, 6, 8]) answers.answer(tag, 'acknowledge');
  answers.flush();
  t.strictSame(frames.splice(0), [
    ['acknowledge', 3, true],
    ['acknowledge', 6, false],
    ['acknowledge', 8, false],
  ]);
  for (const tag of [4, 5, 7]) answers.answer(tag, 'acknowledge');
  answers.flush();
  t.strictSame(frames, [['acknowledge', 7, true]], 'a tag that was answered before is never named again');
  t.equal(answers.open, 0);
  t.end();
});

await t.test('runs of one verdict are one frame each, in order', (t) => {
  const { answers, frames } = recorded(6);
  for (const tag of [6, 5, 4]) answers.answer(tag, 'requeue');
  for (const tag of [1, 2]) answers.answer(tag, 'acknowledge');
  answers.answer(3, 'requeue');
  answers.flush();
  t.strictSame(frames, [
    ['acknowledge', 2, true],
    ['requeue', 6, true],
  ]);
  t.end();
});

await t.test('requeues behind a held delivery go out in the order of the queue', (t) => {
  const { answers, frames } = recorded(4);
  for (const tag of [4, 2, 3]) answers.answer(tag, 'requeue');
  answers.flush();
  t.strictSame(
    frames.map(([, tag]) => tag),
    [2, 3, 4],
  );
  t.end();
});

await t.test('answers leave once per turn of the event loop, the first one counts', async (t) => {
  const { answers, frames } = recorded(2);
  answers.answer(1, 'acknowledge');
  answers.answer(1, 'requeue');
  answers.answer(2, 'acknowledge');
  t.strictSame(frames, []);
  await until(() => frames.length > 0, 'the turn to end', { everyMs: 1 });
  t.strictSame(frames, [['acknowledge', 2, true]]);
});

await t.test('after the end of its channel an answer does nothing', async (t) => {
  const { answers, frames } = recorded(3);
  answers.answer(1, 'acknowledge');
  answers.end();
  answers.answer(2, 'acknowledge');
  answers.flush();
  await new Promise((resolve) => setImmediate(resolve));
  t.strictSame(frames, []);
  t.notOk(answers.isLive);
});

/** The broker's side: an answer must name a tag that waits, and a multiple one takes all up to it. */
class BrokerSide {
  readonly waiting = new Set<number>();
  readonly verdicts = new Map<number, Verdict>();
  answer(verdict: Verdict, tag: number, isMultiple: boolean): void {
    if (!this.waiting.has(tag)) throw new Error(`406: unknown delivery tag ${tag}`);
    for (const other of this.waiting) {
      if (other !== tag && !(isMultiple && other < tag)) continue;
      this.waiting.delete(other);
      this.verdicts.set(other, verdict);
    }
  }
}

const step = fc.oneof(
  fc.constant('deliver' as const),
  fc.constant('flush' as const),
  fc.record({
    pick: fc.nat(),
    verdict: fc.constantFrom<Verdict>('acknowledge', 'requeue'),
  }),
);

await t.test('any order of answers tells the broker each verdict once and never a 406', (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const side = new BrokerSide();
      const answers = new Answers((...frame) => side.answer(...frame));
      const given = new Map<number, Verdict>();
      let last = 0;
      for (const what of steps) {
        if (what === 'deliver') {
          last += 1;
          side.waiting.add(last);
          answers.delivered(last);
        } else if (what === 'flush') {
          answers.flush();
        } else if (last > 0) {
          const tag = 1 + (what.pick % last);
          if (!given.has(tag)) given.set(tag, what.verdict);
          answers.answer(tag, what.verdict);
        }
      }
      answers.flush();
      return (
        given.size === side.verdicts.size &&
        [...given].every(([tag, verdict]) => side.verdicts.get(tag) === verdict) &&
        side.waiting.size === last - given.size
      );
    }),
    { numRuns: 500 },
  );
  t.end();
});
