import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { loadConfig } from '../../src/config.ts';
import { Health } from '../../src/ops/health.ts';

const config = { ...loadConfig({ env: {}, needs: [] }).http, checkMsMax: 50 };

/** A clock that stands until it is moved. */
function standingClock() {
  let at = 0;
  return { nowMs: () => at, monotonicMs: () => at, move: (ms: number) => void (at += ms) };
}

const up = { isOk: true, detail: '' };

await t.test('ready when every required check passes', async (t) => {
  const health = new Health(config, standingClock(), [
    { name: 'postgres', isRequired: true, check: () => up },
    { name: 'mongodb', isRequired: false, check: async () => ({ isOk: false, detail: 'spooling' }) },
  ]);
  t.match(await health.readiness(), {
    isReady: true,
    waitingFor: [],
    degraded: ['mongodb'],
    checks: [
      { name: 'postgres', isRequired: true, isOk: true },
      { name: 'mongodb', isRequired: false, isOk: false, detail: 'spooling' },
    ],
  });
});

await t.test('a check that throws, rejects or hangs is what is waited for', async (t) => {
  const health = new Health(config, standingClock(), [
    {
      name: 'throws',
      isRequired: true,
      check: () => {
        throw new TypeError('x');
      },
    },
    { name: 'rejects', isRequired: true, check: () => Promise.reject(new Error('x')) },
    { name: 'hangs', isRequired: true, check: () => new Promise(() => undefined) },
  ]);
  const { isReady, waitingFor, checks } = await health.readiness();
  t.notOk(isReady);
  t.same(waitingFor, ['throws', 'rejects', 'hangs']);
  t.same(
    checks.map((check) => check.detail),
    ['TypeError', 'Error', 'no answer within 50 ms'],
  );
});

await t.test('a hundred questions within a second are one', async (t) => {
  const clock = standingClock();
  let asked = 0;
  const health = new Health(config, clock, [
    {
      name: 'slow',
      isRequired: true,
      check: async () => {
        asked++;
        await sleep(5);
        return up;
      },
    },
  ]);
  await Promise.all(Array.from({ length: 100 }, () => health.readiness()));
  t.equal(asked, 1);
  clock.move(config.readyCacheMs - 1);
  await health.readiness();
  t.equal(asked, 1);
  clock.move(1);
  await health.readiness();
  t.equal(asked, 2);
});

await t.test('a draining process is not ready, at once and whatever the checks say', async (t) => {
  const health = new Health(config, standingClock(), [
    { name: 'postgres', isRequired: true, check: () => up },
  ]);
  t.ok((await health.readiness()).isReady);
  health.drain();
  health.drain();
  t.match(await health.readiness(), { isReady: false, waitingFor: ['drain'] });
});
