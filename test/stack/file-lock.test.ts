import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';
import { withFileLock } from '../../src/stack/file-lock.ts';

await t.test('one works while the other waits, and is told so', async (t) => {
  const file = join(t.testdir(), 'folder/lock');
  const order: string[] = [];
  const { promise: waited, resolve: tell } = Promise.withResolvers<void>();
  const first = withFileLock(
    file,
    () => t.fail('nobody holds it'),
    async () => {
      order.push('first begins');
      await waited;
      order.push('first ends');
    },
  );
  const second = withFileLock(file, tell, async () => {
    order.push('second begins');
    return 'its answer';
  });
  await first;
  t.equal(await second, 'its answer');
  t.same(order, ['first begins', 'first ends', 'second begins']);
});

await t.test('the lock is free again when its holder is killed', async (t) => {
  const file = join(t.testdir(), 'lock');
  const module = new URL('../../src/stack/file-lock.ts', import.meta.url).href;
  const program = `import { withFileLock } from '${module}';
    await withFileLock('${file}', () => {}, async () => { console.log('held'); await new Promise((r) => setTimeout(r, 60000)); });`;
  const holder = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(holder.stdout, 'data');
  holder.kill('SIGKILL');
  t.equal(
    await withFileLock(
      file,
      () => {},
      async () => 'mine',
    ),
    'mine',
  );
});
