import { createServer } from 'node:net';
import t from 'tap';
import { accepts, reservePorts } from '../../src/stack/ports.ts';

await t.test('ports lie below those the kernel gives to outgoing connections, and differ', async (t) => {
  const blocks = await Promise.all([reservePorts(), reservePorts()]);
  t.teardown(() => blocks.forEach((block) => block.close()));
  const ports = [];
  for (const block of blocks) for (let i = 0; i < 8; i++) ports.push(await block.take());
  t.equal(new Set(ports).size, 16);
  t.ok(ports.every((port) => port < 32_768));
});

await t.test('a port that somebody else has is passed over', async (t) => {
  const block = await reservePorts();
  t.teardown(() => block.close());
  const first = await block.take();
  const other = createServer();
  t.teardown(() => other.close());
  await new Promise<void>((resolve) => {
    other.listen(first + 1, '127.0.0.1', resolve);
  });
  t.equal(await accepts(first + 1), true);
  t.equal(await accepts(first), false);
  t.equal(await block.take(), first + 2);
});
