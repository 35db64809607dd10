import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeFile } from 'node:fs/promises';
import t from 'tap';
import { UsageError } from '../../bench/arguments.ts';
import { quantilesOf } from '../../bench/measure/statistics.ts';
import {
  bodyBytesOf,
  readReplay,
  replayFigures,
  type ReplayRun,
  speedFor,
} from '../../bench/suites/trace-replay.ts';

const HEAD = 'TIMESTAMP,ContextTokens,GeneratedTokens';

await t.test('a recorded load is read with a speed that makes it last two minutes', async (t) => {
  const file = join(
    t.testdir({ 'a.csv': `${HEAD}\n2023-11-16 18:00:00,100,5\n2023-11-16 18:04:01,200,5\n` }),
    'a.csv',
  );
  const { arrivals, speed } = await readReplay(file, null, 1_000);
  t.equal(speed, 3, '241 s');
  t.same(
    arrivals.map(({ atMs }) => atMs),
    [0, 241_000],
  );
  t.equal((await readReplay(file, 7, 1_000)).speed, 7);
  t.equal((await readReplay(file, null, 1)).arrivals.length, 1);
  t.equal(speedFor(10), 1, 'never slower than recorded');
});

await t.test('a wrong file is told by its name and line, before any server starts', async (t) => {
  const folder = t.testdir({
    'head.csv': '2023-11-16 18:00:00,100,5\n',
    'number.csv': `${HEAD}\n2023-11-16 18:00:00,many,5\n`,
    'back.csv': `${HEAD}\n2023-11-16 18:00:01,1,5\n2023-11-16 18:00:00,1,5\n`,
  });
  const wrong: [string, RegExp][] = [
    ['none.csv', /cannot read .*none\.csv.*ENOENT/],
    ['head.csv', /head\.csv.*line 1.*head/],
    ['number.csv', /number\.csv.*line 2, column 2 \(ContextTokens\)/],
    ['back.csv', /back\.csv.*line 3.*before the line above/],
  ];
  for (const [name, message] of wrong) {
    const reading = () => readReplay(join(folder, name), null, 10);
    await t.rejects(reading(), UsageError, name);
    await t.rejects(reading(), { message }, name);
  }
  const main = fileURLToPath(new URL('../../bench/main.ts', import.meta.url));
  const file = join(folder, 'bad.csv');
  await writeFile(file, `${HEAD}\nyesterday,1,1\n`);
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, 'hotpath', '--trace', file], {
    encoding: 'utf8',
  });
  t.match({ status, stdout }, { status: 2, stdout: '' });
  t.match(stderr, /bad\.csv.*line 2, column 1/);
  t.notMatch(stderr, /answers after/, 'no server was started');
});

await t.test('a prompt is as long as its context, within what a job may have', async (t) => {
  t.equal(bodyBytesOf(1_000) - bodyBytesOf(0), 4_000);
  t.equal(bodyBytesOf(1_000_000), 131_072 * 4);
});

await t.test('a replay that was not kept up with has a backlog and no latency', async (t) => {
  const run: ReplayRun = {
    kind: 'latency',
    subject: 'tollgate',
    pair: 0,
    perSecond: 90,
    duePerSecond: 100,
    tailMs: 300,
    latencyMs: quantilesOf([1, 2]),
    latenessMs: quantilesOf([0]),
    backlog: { middle: 2, end: 3 },
    cpuMs: {},
    foreignShare: 0,
  };
  t.ok(replayFigures(run).some(({ id }) => id === 'trace/latency/p99'));
  const behind = replayFigures({ ...run, tailMs: 2_500, backlog: { middle: 500, end: 1_000 } });
  t.notOk(behind.some(({ id }) => id.startsWith('trace/latency')));
  t.same(behind.find(({ id }) => id === 'trace/backlog')?.values, [1_000]);
});
