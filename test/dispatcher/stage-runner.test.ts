import t from 'tap';
import { systemClock } from '../../src/clock.ts';
import { StageRunner } from '../../src/dispatcher/stage-runner.ts';
import { StoreError } from '../../src/errors.ts';
import { PrometheusMetrics } from '../../src/ops/metrics.ts';
import { quietLog } from '../support/ledger.ts';
import { until } from '../support/until.ts';

await t.test('only a try without an answer stands still: a call that is repeated moves', async (t) => {
  let nowMs = 0;
  const clock = { ...systemClock, nowMs: () => nowMs, monotonicMs: () => nowMs };
  const bounds = { stageRetryMs: 60_000, stageRetryDelayMsMax: 20 };
  const stages = new StageRunner(clock, quietLog, new PrometheusMetrics(), bounds, Math.random);
  t.equal(stages.stillMs(), 0, 'nothing to do is no standstill');

  const tries: PromiseWithResolvers<string>[] = [];
  const call = () => {
    const one = Promise.withResolvers<string>();
    tries.push(one);
    return one.promise;
  };
  const running = stages.run('lock', 1, () => true, call);
  nowMs = 15_000;
  t.equal(stages.stillMs(), 15_000);
  tries[0]?.reject(new StoreError('postgres', 'away'));
  await until(() => tries.length === 2, 'the second try');
  t.equal(stages.stillMs(), 0, 'the failure was an answer');
  nowMs += 7_000;
  t.equal(stages.stillMs(), 7_000);
  tries[1]?.resolve('done');
  t.equal(await running, 'done');
  t.equal(stages.stillMs(), 0);
});

await t.test('a call that failed for good stands no longer', async (t) => {
  const clock = { ...systemClock, nowMs: () => 0, monotonicMs: () => performance.now() };
  const bounds = { stageRetryMs: 100, stageRetryDelayMsMax: 10 };
  const stages = new StageRunner(clock, quietLog, new PrometheusMetrics(), bounds, Math.random);
  await t.rejects(
    stages.run(
      'reserve',
      1,
      () => false,
      () => Promise.reject(new StoreError('redis', 'away')),
    ),
    StoreError,
  );
  t.equal(stages.stillMs(), 0);
});
