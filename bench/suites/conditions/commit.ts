import { BenchError } from '../../bench-error.ts';
import { saturatedRun } from '../../measure/runs.ts';
import { plain } from '../../report/report.ts';
import { TARGETS } from '../../report/targets.ts';
import { Standby } from '../../world/standby.ts';
import { tell } from '../suite.ts';
import type { Circumstances, Condition } from './condition.ts';

/** How much later the standby answers. */
const DELAY_MS = 5;
/** What its CPU is kept under. */
const STANDBY = 'pg_receivewal';
/** A timer may fire this much early, as its clock counts whole milliseconds. */
const EARLY_MS = 1;

/** Every commit waits for a synchronous replica whose answers take 5 ms. */
export async function slowCommit({ place, jobs, usual }: Circumstances): Promise<Condition> {
  const subject = await usual();
  const standby = await Standby.start(place.bench, DELAY_MS);
  // Its CPU is the standby's, and none of the strangers' that disturb; the wire is part of the client.
  place.processes[STANDBY] = { pid: standby.pid };
  const freeMs = await standby.commitMs();
  await standby.attach();
  const attachedMs = await standby.commitMs();
  await standby.detach();
  const line = `a commit of one record takes ${plain(freeMs)} ms, and ${plain(attachedMs)} ms with the standby attached`;
  tell(line);
  if (attachedMs - freeMs < DELAY_MS - EARLY_MS)
    throw new BenchError(`the standby adds no ${DELAY_MS} ms: ${line}`);
  let isAttached = false;
  const set = async (wanted: boolean): Promise<void> => {
    if (wanted !== isAttached) await (wanted ? standby.attach() : standby.detach());
    isAttached = wanted;
  };
  const side = (wanted: boolean) => async (pair: number) => {
    await set(wanted);
    return saturatedRun(place.ground, subject, 'dispatch', pair, jobs);
  };
  return {
    title: `${DELAY_MS} ms added to each commit`,
    target: TARGETS.keptUnderCondition,
    without: side(false),
    with: side(true),
    end: async () => {
      await standby.stop();
      delete place.processes[STANDBY];
    },
    notes: [`commit-5ms: ${line}`],
  };
}
