import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { readWorkLogs } from '../../src/audit/work-logs.ts';
import { newUuidV7 } from '../../src/ids.ts';
import { collect } from './collect.ts';

const run = (change: object = {}) => ({
  received_at_ms: 1_800_000_000_000,
  started_at_ms: 1_800_000_000_001,
  finished_at_ms: 1_800_000_000_002,
  job: newUuidV7(),
  attempt: 1,
  node: 'n1',
  session: 1_799_999_999_999,
  ...change,
});

await t.test('lines are read with their place, and a file named twice once', async (t) => {
  const first = join(t.testdir(), 'a.jsonl');
  const second = join(t.testdirName, 'b.jsonl');
  const runs = [run(), run(), run()];
  writeFileSync(first, `${JSON.stringify(runs[0])}\n${JSON.stringify(runs[1])}\n`);
  writeFileSync(second, `${JSON.stringify(runs[2])}\r\n`);
  t.same(await collect(readWorkLogs([first, second, first])), [
    { where: `${first}:1`, run: runs[0] },
    { where: `${first}:2`, run: runs[1] },
    { where: `${second}:1`, run: runs[2] },
  ]);
});

await t.test('what is no line of a worker is told, but for a last one that is being written', async (t) => {
  const path = join(t.testdir(), 'a.jsonl');
  const wrong = [
    'not json',
    'null',
    JSON.stringify(run({ job: 'x' })),
    JSON.stringify(run({ attempt: '1' })),
    JSON.stringify(run({ node: null })),
  ];
  const good = run();
  writeFileSync(path, [...wrong, JSON.stringify(good), JSON.stringify(run()).slice(0, 40)].join('\n'));
  const lines = await collect(readWorkLogs([path]));
  t.same(
    lines.map((line) => line.run),
    [null, null, null, null, null, good],
  );
  t.equal(lines[0]?.where, `${path}:1`);
});

await t.test('an empty log has nothing to tell, a missing one is a fault of the command line', async (t) => {
  const path = join(t.testdir(), 'a.jsonl');
  writeFileSync(path, '');
  t.same(await collect(readWorkLogs([path])), []);
  await t.rejects(collect(readWorkLogs([`${path}.gone`])), {
    code: 'TG_CLI_USAGE',
    message: /a\.jsonl\.gone \(ENOENT\)/,
  });
});
