import { join } from 'node:path';
import { byFunction, readProfiles, shareLines, timeShares } from '../measure/profile.ts';
import { alternating } from '../measure/statistics.ts';
import type { Figure, Findings } from '../report/findings.ts';
import type { TollgateSubject } from '../subjects/subject.ts';
import { hotAccount } from './conditions/accounts.ts';
import { slowCommit } from './conditions/commit.ts';
import type { Circumstances, Condition } from './conditions/condition.ts';
import { twoCoordinators } from './conditions/coordinators.ts';
import { manyPools } from './conditions/pools.ts';
import { heldSnapshot, heldSnapshotHot } from './conditions/snapshot.ts';
import { manyWorkers } from './conditions/workers.ts';
import {
  CONDITIONS_USAGE,
  type ConditionName,
  type ConditionsOptions,
  conditionsOptions,
} from './conditions-options.ts';
import { addTollgate, findingsOf, makePlace } from './place.ts';
import { type ConditionRun, cpuLines, figuresOf } from './conditions-figures.ts';
import { type Bench, type Suite, tell, withBench } from './suite.ts';

const CONDITIONS: Readonly<Record<ConditionName, (circumstances: Circumstances) => Promise<Condition>>> = {
  'commit-5ms': slowCommit,
  'hot-account': hotAccount,
  'workers-100000': manyWorkers,
  'snapshot-held': heldSnapshot,
  'snapshot-held-hot': heldSnapshotHot,
  'coordinators-2': twoCoordinators,
  'pools-1000': manyPools,
};

/**
 * How much slower is saturated dispatch under one thing after the other that a network brings with it? Each condition is measured
 * against Tollgate without it in pairs (A B B A), and the ratio is formed within the pair.
 */
export const conditions: Suite = {
  asks: 'how much slower it is under what a large network brings',
  usage: CONDITIONS_USAGE,
  run: (argv) => {
    const options = conditionsOptions(argv);
    return withBench((bench) => measure(bench, options, argv));
  },
};

async function measure(bench: Bench, options: ConditionsOptions, argv: readonly string[]): Promise<Findings> {
  const startedAt = new Date().toISOString();
  const place = makePlace(bench);
  let usual: Promise<TollgateSubject> | null = null;
  const circumstances: Circumstances = {
    place,
    jobs: options.jobs,
    profile: options.profile,
    usual: () => (usual ??= addTollgate(place, 'usual')),
  };
  const runs: ConditionRun[] = [];
  const figures: Figure[] = [];
  const notes: string[] = [];
  for (const name of options.names) {
    tell(`condition ${name}`);
    const condition = await CONDITIONS[name](circumstances);
    const own = await pairsOf(name, condition, options.pairs);
    const control = await condition.control?.(options.pairs);
    await condition.end?.();
    runs.push(...own);
    figures.push(...(condition.figures ?? []), ...figuresOf(name, condition, own), ...(control ?? []));
    notes.push(...(condition.notes ?? []));
  }
  notes.push('', ...cpuLines(runs), ...profileLines(options));
  return findingsOf(place, { suite: 'conditions', startedAt, figures, notes, argv, runs });
}

async function pairsOf(condition: ConditionName, sides: Condition, pairs: number): Promise<ConditionRun[]> {
  const runs: ConditionRun[] = [];
  for (let pair = 0; pair < pairs; pair++)
    for (const isWith of alternating([false, true], pair)) {
      const run = await (isWith ? sides.with : sides.without)(pair);
      runs.push({ ...run, condition, isWith });
      tell(
        `pair ${pair + 1}, ${isWith ? 'with' : 'without'} ${condition}: ${run.jobs} in ${run.ms.toFixed(0)} ms, ${run.perSecond.toFixed(0)}/s`,
      );
    }
  return runs;
}

const FUNCTIONS_SHOWN = 20;

/** Where the daemons of the two pool worlds spent their time. */
function profileLines({ profile, names }: ConditionsOptions): string[] {
  if (profile === null || !names.includes('pools-1000')) return [];
  return ['pools-1', 'pools-1000'].flatMap((world) => [
    '',
    `${world}, CPU of the daemon, each function's own time`,
    ...shareLines(timeShares(readProfiles(join(profile, world), 'dispatch'), byFunction), FUNCTIONS_SHOWN),
  ]);
}
