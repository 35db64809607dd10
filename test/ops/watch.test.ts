import t from 'tap';
import type { Readiness } from '../../src/ops/health.ts';
import { createLog } from '../../src/ops/log.ts';
import type { Notice } from '../../src/ops/service-manager.ts';
import { Watch } from '../../src/ops/watch.ts';
import { until } from '../support/until.ts';

const quiet = createLog({ level: 'silent' });
const READY: Readiness = { isReady: true, waitingFor: [], degraded: [], checks: [] };
const WITHOUT_REDIS: Readiness = {
  isReady: false,
  waitingFor: ['redis'],
  degraded: [],
  checks: [{ name: 'redis', isRequired: true, isOk: false, detail: 'not connected' }],
};

/** A watch that looks every 10 ms at what the test sets, and what it told the service manager. */
function watched(
  t: { teardown(end: () => unknown): void },
  watchdogMs: number | null = 30,
  lookEveryMs = 10,
) {
  const state = { readiness: READY, stillMs: 0 };
  const told: Notice[] = [];
  const watch = new Watch({
    readiness: async () => state.readiness,
    movements: [{ name: 'sweeps', stillMs: () => state.stillMs }],
    manager: { watchdogMs, tell: (notice) => void told.push(notice) },
    drainMsMax: 30_000,
    bounds: { lookEveryMs, countEveryMs: 10, stuckAfterMs: 1_000 },
    clock: { nowMs: () => 0, monotonicMs: () => 0 },
    log: quiet,
  });
  t.teardown(() => watch.stop());
  /** Waits for a look that begins after this call, and returns what it told. */
  const nextLook = async (): Promise<Notice> => {
    const seen = told.length;
    await until(() => told.length > seen + 1, 'two looks');
    return told.at(-1) ?? {};
  };
  return { state, told, watch, nextLook };
}

await t.test('READY comes when all parts have started and every required check passes', async (t) => {
  const { state, told, watch, nextLook } = watched(t);
  await watch.start();
  t.same(await nextLook(), { STATUS: 'starting' }, 'not while the parts start');
  state.readiness = WITHOUT_REDIS;
  t.same(await nextLook(), { STATUS: 'starting, not yet up: redis (not connected)' });
  watch.serving();
  const { STATUS, EXTEND_TIMEOUT_USEC, ...rest } = await nextLook();
  t.same(rest, {});
  t.equal(STATUS, 'waits for redis (not connected)');
  t.ok(Number(EXTEND_TIMEOUT_USEC) > 10_000, 'but more time is asked for: a server is away, not we');
  t.notOk(watch.isReady);
  t.notOk(told.some((notice) => notice.READY));

  state.readiness = { ...READY, degraded: ['mongodb'] };
  t.same(await nextLook(), { READY: '1', WATCHDOG: '1', STATUS: 'takes work, without mongodb' });
  t.ok(watch.isReady);
});

await t.test('a server that goes away stops no watchdog: a restart would not bring it back', async (t) => {
  const { state, watch, nextLook } = watched(t);
  await watch.start();
  watch.serving();
  await nextLook();
  state.readiness = WITHOUT_REDIS;
  t.match(await nextLook(), { WATCHDOG: '1', STATUS: 'waits for redis (not connected)' });
  t.notOk(watch.isReady, 'though it is not ready');
});

await t.test('a part that stands still is not fed, and is named', async (t) => {
  const { state, watch, nextLook } = watched(t);
  await watch.start();
  watch.serving();
  await nextLook();
  state.stillMs = 1_001;
  t.same(await nextLook(), { STATUS: 'stuck: sweeps' });
  state.stillMs = 0;
  t.match(await nextLook(), { WATCHDOG: '1', STATUS: 'takes work' });
  t.same([...watch.stillMs], [['sweeps', 0]]);
});

await t.test('a start in which a part is stuck gets no more time', async (t) => {
  const { state, watch, nextLook } = watched(t);
  state.readiness = WITHOUT_REDIS;
  state.stillMs = 1_001;
  await watch.start();
  watch.serving();
  t.same(await nextLook(), { STATUS: 'stuck: sweeps' });
});

await t.test('a drain is told at once, asks for its time, and is fed until the end', async (t) => {
  const { state, told, watch, nextLook } = watched(t);
  await watch.start();
  watch.serving();
  await nextLook();
  told.length = 0;
  watch.drain();
  t.same(told[0], { STOPPING: '1', EXTEND_TIMEOUT_USEC: '35000000', STATUS: 'draining' });
  state.stillMs = 1_000_000;
  t.same(await nextLook(), { WATCHDOG: '1', STATUS: 'draining' }, 'also while parts stand');
  t.notOk(told.some((notice) => notice.READY));
  await watch.stop();
  const count = told.length;
  watch.drain();
  t.equal(told.length, count + 1);
});

await t.test(
  'a watchdog is fed three times in its time, however seldom the process looks otherwise',
  async (t) => {
    const { told, watch } = watched(t, 60, 60_000);
    await watch.start();
    await until(() => told.length >= 4, 'four looks');
  },
);
