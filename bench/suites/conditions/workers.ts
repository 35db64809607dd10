import { BenchError } from '../../bench-error.ts';
import { flowRun } from '../../measure/flow.ts';
import { TARGETS } from '../../report/targets.ts';
import { makeCrowd } from '../../world/crowd.ts';
import { tell } from '../suite.ts';
import type { Circumstances, Condition } from './condition.ts';

const WORKERS = 100_000;

/**
 * 100,000 workers in the pool, of whom ten are real and have the most free slots. The client publishes during the run: a pool with
 * workers that have room does not pause, so no backlog can be laid in front of it.
 */
export async function manyWorkers({ place, jobs, usual }: Circumstances): Promise<Condition> {
  const subject = await usual();
  const crowd = await makeCrowd(place.bench.t, subject.client.world);
  let size = 0;
  const side = (wanted: number) => async (pair: number) => {
    if (wanted !== size) await crowd.resize(wanted);
    size = wanted;
    return flowRun(place.ground, subject, pair, jobs, {});
  };
  await crowd.resize(WORKERS);
  const seen = await crowd.poolSize();
  if (seen < WORKERS) throw new BenchError(`of ${WORKERS} workers ${seen} are known`);
  tell(`${seen} workers are known`);
  size = WORKERS;
  return {
    title: `${WORKERS.toLocaleString('en')} workers, without 10`,
    target: TARGETS.keptUnderCondition,
    without: side(0),
    with: side(WORKERS),
    end: () => crowd.resize(0),
  };
}
