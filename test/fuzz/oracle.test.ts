import t from 'tap';
import { findingOf, Inputs, Target } from './in-process.ts';

/** The fuzzer itself: that it makes the same inputs again, makes every kind, and would notice. */
const inputs = new Inputs(7);

await t.test('a seed and an index make the same input', (t) => {
  const again = new Inputs(7);
  for (const index of [0, 1, 999, 123_456]) t.same(again.make(index), inputs.make(index));
  t.notSame(new Inputs(8).make(0), inputs.make(0));
  t.end();
});

await t.test('what is accepted against its mutation, or refused against it, is a finding', async (t) => {
  const target = new Target(inputs.directory);
  const found = Array.from({ length: 200 }, (_, index) => inputs.make(index));
  const refused = found.find(({ expects }) => expects === 'refused');
  const accepted = found.find(({ expects }) => expects === 'accepted');
  if (refused === undefined || accepted === undefined) throw new Error('no such inputs');
  const no = await target.judge(refused);
  const yes = await target.judge(accepted);
  t.equal(findingOf(refused, no), null);
  t.equal(findingOf(accepted, yes), null);
  t.match(findingOf(refused, yes), { what: 'accepted' });
  t.match(findingOf(accepted, no), { what: 'refused' });
  t.match(findingOf({ ...refused, expects: 'open' }, { kind: 'accepted', fault: 'forged' }), {
    detail: 'forged',
  });
  const nameless = { code: 'TG_MESSAGE_INVALID', field: null, message: '' } as const;
  t.match(findingOf(refused, { kind: 'refused', refusal: nameless, isRemembered: false }), { what: 'code' });
});

await t.test(
  'a job of another account, a result of another node and an unsigned hello are noticed when they get through',
  async (t) => {
    const target = new Target(inputs.directory);
    let noticed = 0;
    for (let index = 0; index < 3_000; index++) {
      const input = inputs.make(index);
      const verdict = await target.judge(input);
      if (verdict.kind !== 'accepted' || verdict.fault !== null) continue;
      // The same verdict for an envelope that another sent.
      const forged = { ...input, envelope: { ...input.envelope, userId: 'p-rival' } };
      if ((await target.judge(forged)).kind === 'refused') noticed += 1;
      else t.fail(`${input.kind} ${input.mutation} of another user was accepted`);
    }
    t.ok(noticed > 300, `${noticed} were`);
  },
);
