import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { findBinary, isAtLeast } from '../../src/stack/binaries.ts';

await t.test('versions compare by number, not by text', (t) => {
  t.equal(isAtLeast('3.10.8', [3, 10]), true);
  t.equal(isAtLeast('3.9.13', [3, 10]), false);
  t.equal(isAtLeast('4.0', [3, 10]), true);
  t.equal(isAtLeast('15', [15, 0]), true);
  t.end();
});

await t.test('a program that is too old, or does not run, is passed over with its reason', async (t) => {
  const folder = t.testdir({ old: {}, broken: {} });
  const program = (name: string, text: string) => {
    const path = join(folder, name, 'redis-server');
    writeFileSync(path, `#!/bin/sh\n${text}\n`);
    chmodSync(path, 0o755);
    return path;
  };
  const old = program('old', 'echo "Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64"');
  const broken = program('broken', 'exit 127');
  const path = process.env['PATH'];
  t.teardown(() => {
    process.env['PATH'] = path;
  });
  process.env['PATH'] = `${join(folder, 'broken')}:${join(folder, 'old')}:${path}`;
  const { found, unfit } = await findBinary('redis');
  t.same(unfit, [
    { path: broken, reason: 'does not run' },
    { path: old, reason: 'is 6.0.16' },
  ]);
  if (found) t.not(found.path, old);
});
