import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import t from 'tap';
import { readTrace } from '../../src/demo/trace-file.ts';

const HEAD = 'TIMESTAMP,ContextTokens,GeneratedTokens';

function read(...lines: string[]): ReturnType<typeof readTrace> {
  return readTrace(lines);
}

await t.test('lines that end CR LF are read, and digits of 100 ns are kept', async (t) => {
  const arrivals = await read(
    `${HEAD}\r`,
    '2023-11-16 18:17:03.9799600,4808,10\r',
    '2023-11-16 18:17:04.0319601,3180,8\r',
    '',
  );
  t.same(arrivals, [
    { atMs: 0, contextTokens: 4_808, generatedTokens: 10 },
    { atMs: 52.0001, contextTokens: 3_180, generatedTokens: 8 },
  ]);
});

await t.test('times may have a T, a zone of zero, no fraction or nine digits of it', async (t) => {
  const arrivals = await read(
    HEAD,
    '2024-05-10 23:59:59.000000+00:00,1,1',
    '2024-05-11T00:00:00Z,1,1',
    '2024-05-11 00:00:00.000000001,1,1',
  );
  t.same(
    arrivals.map(({ atMs }) => atMs),
    [0, 1_000, 1_000.000001],
  );
});

await t.test('reading stops at the number that is wanted', async (t) => {
  const lines = [HEAD, '2023-11-16 18:17:03,1,1', '2023-11-16 18:17:04,2,2', 'nonsense'];
  t.equal((await readTrace(lines, 2)).length, 2);
});

await t.test('a fault names line and column', async (t) => {
  const good = '2023-11-16 18:17:03.9799600,4808,10';
  const cases: [string[], RegExp][] = [
    [[], /line 1: the file is empty/],
    [['a,b,c'], /line 1: expects the head TIMESTAMP,ContextTokens,GeneratedTokens/],
    [[HEAD], /line 2: there is no request below the head/],
    [[HEAD, good, '2023-11-16 18:17:04,1'], /line 3: has 2 columns and not 3/],
    [[HEAD, 'yesterday,1,1'], /line 2, column 1 \(TIMESTAMP\): expects a time like .*, got "yesterday"/],
    [[HEAD, '2023-13-16 18:17:04,1,1'], /line 2, column 1 \(TIMESTAMP\): expects a time/],
    [[HEAD, '2023-11-16 18:17:04+02:00,1,1'], /line 2, column 1 \(TIMESTAMP\): expects a time/],
    [
      [HEAD, good, '2023-11-16 18:17:03.9799599,1,1'],
      /line 3, column 1 \(TIMESTAMP\): is before the line above/,
    ],
    [
      [HEAD, '2023-11-16 18:17:04,-1,1'],
      /line 2, column 2 \(ContextTokens\): expects a whole number .*, got "-1"/,
    ],
    [[HEAD, '2023-11-16 18:17:04,1.5,1'], /line 2, column 2 \(ContextTokens\)/],
    [[HEAD, '2023-11-16 18:17:04,1000001,1'], /line 2, column 2 \(ContextTokens\): .* from 0 to 1000000/],
    [[HEAD, '2023-11-16 18:17:04,1,'], /line 2, column 3 \(GeneratedTokens\): .* got ""/],
    [[HEAD, `2023-11-16 18:17:04,1,${'9'.repeat(80)}`], /line 2, column 3 \(GeneratedTokens\): .*9…"/],
  ];
  for (const [lines, message] of cases) {
    await t.rejects(readTrace(lines), { code: 'TG_CLI_USAGE', message }, String(message));
  }
});

await t.test('the recorded hour in the repository is read whole', async (t) => {
  const file = new URL('../../bench/data/AzureLLMInferenceTrace_code.csv', import.meta.url);
  const arrivals = await readTrace(createInterface({ input: createReadStream(file) }));
  t.equal(arrivals.length, 8_819);
  t.match(arrivals.at(-1), { atMs: 3_435_948.056, contextTokens: 549, generatedTokens: 173 });
});
