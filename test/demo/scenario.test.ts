import t from 'tap';
import { parserOf } from '../../src/contracts/parse.ts';
import { JobMessage } from '../../src/contracts/job.ts';
import { FLAWS } from '../../src/demo/flaws.ts';
import { Prompts, PROMPT_TOKENS_MAX } from '../../src/demo/prompts.ts';
import { compositionOf, JOBS_MAX, JOBS_MIN, scenarioOf } from '../../src/demo/default-load.ts';
import { scenarioOfTrace } from '../../src/demo/replay.ts';
import { jobOf, lockOf, type ScenarioMessage } from '../../src/demo/scenario.ts';
import { worldOf } from '../../src/demo/world.ts';
import { newUuidV7 } from '../../src/ids.ts';

const JOBS = 2_400;
const world = worldOf();
const { small, large, poor, publishers } = world;
const { messages, creditMicro } = scenarioOf(world, JOBS, 1);
const originals = messages.filter((message, i) => messages.findIndex(({ job }) => job === message.job) === i);

function written(seed: number): string {
  return JSON.stringify(scenarioOf(world, JOBS, seed).messages);
}

function ofKind(kind: ScenarioMessage['kind']): ScenarioMessage[] {
  return messages.filter((message) => message.kind === kind);
}

await t.test('the same seed gives the same messages, another one others', async (t) => {
  t.ok(written(1) === JSON.stringify(messages));
  t.ok(written(2) !== written(1));
});

await t.test('there are as many jobs as asked for, from the fewest to the most', async (t) => {
  t.equal(originals.length, JOBS);
  t.equal(new Set(scenarioOf(world, JOBS_MIN, 7).messages.map(({ job }) => job)).size, JOBS_MIN);
  t.equal(new Set(scenarioOf(world, JOBS_MAX, 7).messages.map(({ job }) => job)).size, JOBS_MAX);
  t.throws(() => scenarioOf(world, JOBS_MIN - 1, 1), /200 to/);
});

await t.test('one in a hundred is malformed, and every flaw there is occurs', async (t) => {
  const flawed = ofKind('flawed');
  t.equal(flawed.filter(({ flaw }) => flaw && FLAWS[flaw].group === 'malformed').length, JOBS / 100);
  t.same(new Set(flawed.map(({ flaw }) => flaw)), new Set(Object.keys(FLAWS)));
  t.same(
    flawed.map(({ expected }) => expected),
    flawed.map(({ flaw }) => flaw && FLAWS[flaw].expected),
  );
});

await t.test('every kind is there in its number', async (t) => {
  const count = compositionOf(JOBS);
  t.equal(ofKind('plain').length, count.plain);
  t.equal(ofKind('orphan').length, count.orphan);
  t.equal(ofKind('broken').length, count.broken);
  t.equal(ofKind('twin').length, count.twin);
  t.equal(ofKind('again').length, count.again);
  t.equal(ofKind('other_body').length, count.otherBody);
  t.equal(ofKind('other_account').length, count.otherAccount);
  t.ok(count.plain / JOBS > 0.9);
});

await t.test('messages are in the order of their moments, and a repeat comes after its job', async (t) => {
  t.ok(messages.every(({ seq }, i) => seq === i));
  t.ok(messages.every(({ atMs }, i) => atMs >= (messages[i - 1]?.atMs ?? 0)));
  for (const { after, job, seq } of messages.filter((message) => message.after !== null)) {
    t.equal(messages[after ?? -1]?.job, job);
    t.ok((after ?? seq) < seq);
  }
  for (const twin of ofKind('twin')) {
    const original = originals.find(({ job }) => job === twin.job);
    t.ok(original && original.seq < twin.seq && original.atMs === twin.atMs);
    t.same({ ...original, seq: twin.seq, kind: 'twin' }, twin, 'and says the same');
  }
});

await t.test('a job is repeated once at most, and only if it is plain', async (t) => {
  const repeats = messages.filter((message) => !originals.includes(message));
  t.equal(new Set(repeats.map(({ job }) => job)).size, repeats.length);
  t.ok(repeats.every(({ job }) => originals.find((one) => one.job === job)?.kind === 'plain'));
});

await t.test("another account's repeat comes from a publisher of that account", async (t) => {
  for (const repeat of ofKind('other_account')) {
    const original = originals.find(({ job }) => job === repeat.job);
    t.not(repeat.account, original?.account);
    t.ok(publishers.find(({ name }) => name === repeat.publisher)?.accounts.includes(repeat.account));
  }
});

await t.test('the small jobs of the poor account fit in any order, and a large one never does', async (t) => {
  const credit = creditMicro.get(poor.name) ?? 0n;
  const locks = ofKind('penny_small').map((message) => lockOf(world, message));
  t.ok(locks.length > 1);
  t.equal(
    locks.reduce((sum, amount) => sum + amount, 0n),
    credit,
  );
  t.ok(ofKind('penny_large').every((message) => lockOf(world, message) > credit));
  t.ok(messages.filter(({ account }) => account === poor.name).every(({ kind }) => kind.startsWith('penny')));
});

await t.test('what may run twice over is paid for', async (t) => {
  for (const [account, credit] of creditMicro) {
    const locks = originals.filter((one) => one.account === account && one.expected.state === 'succeeded');
    t.ok(locks.map((one) => lockOf(world, one)).reduce((sum, amount) => sum + amount, 0n) <= credit, account);
  }
});

await t.test('a body is a valid job, and its prompt is as long as its limit allows', async (t) => {
  const parse = parserOf(JobMessage);
  const prompts = new Prompts();
  for (const message of messages.slice(0, 50)) {
    const { promptStart, promptTokens } = message;
    const job = jobOf(message, newUuidV7(), prompts.text(promptStart, promptTokens));
    t.ok(parse(Buffer.from(JSON.stringify(job))).ok);
    t.ok(promptTokens <= message.inputTokensMax);
  }
});

await t.test(
  'a trace is laid out at its moments, faster by the speed, with its sizes as limits',
  async (t) => {
    const arrivals = [
      { atMs: 0, contextTokens: 4_808, generatedTokens: 10 },
      { atMs: 52.0001, contextTokens: 0, generatedTokens: 0 },
      { atMs: 3_000, contextTokens: 900_000, generatedTokens: 8 },
    ];
    const { messages: replayed, creditMicro: credit } = scenarioOfTrace(world, arrivals, 10, 1);
    t.same(
      replayed.map(({ atMs }) => atMs),
      [0, 5, 300],
    );
    t.same(
      replayed.map(({ inputTokensMax, outputTokensMax }) => [inputTokensMax, outputTokensMax]),
      [
        [4_808, 10],
        [1, 1],
        [900_000, 8],
      ],
    );
    t.same(
      replayed.map(({ promptTokens }) => promptTokens),
      [4_808, 0, PROMPT_TOKENS_MAX],
      'text is made up to a bound',
    );
    const needed = replayed.map((one) => lockOf(world, one)).reduce((sum, amount) => sum + amount, 0n);
    t.ok([...credit.values()].reduce((sum, amount) => sum + amount, 0n) >= needed);
    t.ok(
      replayed.every(
        ({ model, expected }) => [small.name, large.name].includes(model) && expected.code === null,
      ),
    );
  },
);
