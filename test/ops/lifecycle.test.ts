import { EventEmitter } from 'node:events';
import t from 'tap';
import { Lifecycle, runUntilSignal } from '../../src/ops/lifecycle.ts';
import { createLog } from '../../src/ops/log.ts';
import type { Service } from '../../src/ops/types.ts';
import { until } from '../support/until.ts';

const quiet = createLog({ level: 'silent' });

/** Services that write what happens to them into `story`. */
function services(names: readonly string[], special: Record<string, Partial<Service>> = {}) {
  const story: string[] = [];
  const named = names.map((name) => ({
    name,
    service: {
      start: async () => {
        story.push(`start ${name}`);
        await special[name]?.start?.();
      },
      stop: async () => {
        story.push(`stop ${name}`);
        await special[name]?.stop?.();
      },
    },
  }));
  return { story, named };
}

await t.test('services start in order and stop in reverse', async (t) => {
  const { story, named } = services(['a', 'b', 'c']);
  const lifecycle = new Lifecycle(named, quiet, 1_000);
  await lifecycle.start();
  await lifecycle.stop();
  t.same(story, ['start a', 'start b', 'start c', 'stop c', 'stop b', 'stop a']);
});

await t.test('starting or stopping twice does it once', async (t) => {
  const { story, named } = services(['a']);
  const lifecycle = new Lifecycle(named, quiet, 1_000);
  await Promise.all([lifecycle.start(), lifecycle.start()]);
  await Promise.all([lifecycle.stop(), lifecycle.stop()]);
  await lifecycle.stop();
  t.same(story, ['start a', 'stop a']);
});

await t.test('a stop before the start starts and stops nothing', async (t) => {
  const { story, named } = services(['a']);
  const lifecycle = new Lifecycle(named, quiet, 1_000);
  await lifecycle.stop();
  await lifecycle.start();
  t.same(story, []);
});

await t.test('a start that fails stops what had begun, itself included, and says why', async (t) => {
  const { story, named } = services(['a', 'b', 'c'], {
    b: { start: () => Promise.reject(new Error('no server')) },
  });
  await t.rejects(new Lifecycle(named, quiet, 1_000).start(), { message: 'no server' });
  t.same(story, ['start a', 'start b', 'stop b', 'stop a']);
});

await t.test('a stop during the start ends it', async (t) => {
  const gate = Promise.withResolvers<void>();
  const { story, named } = services(['a', 'b', 'c'], {
    b: { start: () => gate.promise, stop: async () => gate.resolve() },
  });
  const lifecycle = new Lifecycle(named, quiet, 1_000);
  const starting = lifecycle.start();
  await until(() => story.includes('start b'), 'b to begin');
  await lifecycle.stop();
  await starting;
  t.same(story, ['start a', 'start b', 'stop b', 'stop a']);
});

/** A stop that never ends. */
const hang = () => new Promise<void>(() => undefined);

await t.test('one deadline holds for all stops, and names what is left', async (t) => {
  const { story, named } = services(['a', 'b', 'c'], { b: { stop: hang }, c: { stop: hang } });
  const lifecycle = new Lifecycle(named, quiet, 30);
  await lifecycle.start();
  const begunMs = performance.now();
  await t.rejects(lifecycle.stop(), { message: 'not cleanly stopped within 30 ms: c, b' });
  t.ok(performance.now() - begunMs < 1_000);
  t.same(story.slice(3), ['stop c', 'stop b', 'stop a'], 'each is told all the same');
});

await t.test('a stop that fails does not keep the others running', async (t) => {
  const { story, named } = services(['a', 'b'], { b: { stop: () => Promise.reject(new Error('x')) } });
  const lifecycle = new Lifecycle(named, quiet, 1_000);
  await lifecycle.start();
  await t.rejects(lifecycle.stop(), /: b$/);
  t.same(story.slice(2), ['stop b', 'stop a']);
});

/** A process that only remembers how it was told to exit. */
class FakeProcess extends EventEmitter {
  readonly exits: number[] = [];
  exit(status: number): void {
    this.exits.push(status);
  }
}

await t.test('the first signal stops, the second one exits 1', async (t) => {
  const events = new FakeProcess();
  const gate = Promise.withResolvers<void>();
  let stops = 0;
  const run = runUntilSignal(
    () => {
      stops++;
      return gate.promise;
    },
    quiet,
    { events },
  );
  events.emit('SIGTERM');
  await Promise.resolve();
  t.same(events.exits, []);
  events.emit('SIGINT');
  t.same(events.exits, [1]);
  gate.resolve();
  await run;
  t.equal(stops, 1);
  t.equal(events.eventNames().length, 0, 'no listener stays behind');
});

await t.test('an aborted signal stops like SIGTERM', async (t) => {
  const events = new FakeProcess();
  await runUntilSignal(async () => undefined, quiet, { events, signal: AbortSignal.abort() });
  const abort = new AbortController();
  const run = runUntilSignal(async () => undefined, quiet, { events, signal: abort.signal });
  abort.abort();
  await run;
  t.same(events.exits, []);
});

await t.test('a stop that fails exits 1', async (t) => {
  const events = new FakeProcess();
  const run = runUntilSignal(() => Promise.reject(new Error('left')), quiet, { events });
  events.emit('SIGINT');
  await run;
  t.same(events.exits, [1]);
});

await t.test('an error nobody caught exits 70', async (t) => {
  for (const kind of ['unhandledRejection', 'uncaughtException']) {
    const events = new FakeProcess();
    const run = runUntilSignal(async () => undefined, quiet, { events });
    events.emit(kind, new Error('x'));
    t.same(events.exits, [70]);
    events.emit('SIGTERM');
    await run;
  }
});
