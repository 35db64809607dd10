import { integer, parsedAs } from '../arguments.ts';
import { type SaturatedRun, saturatedRun } from '../measure/runs.ts';
import { alternating, pairedRatios } from '../measure/statistics.ts';
import { figure, type Findings } from '../report/findings.ts';
import { TARGETS } from '../report/targets.ts';
import { fillHistory, type LedgerSize } from '../world/history.ts';
import { RUN_JOBS_MAX } from '../world/names.ts';
import { addTollgate, findingsOf, makePlace } from './place.ts';
import { type Bench, type Suite, tell, withBench } from './suite.ts';

/** What `npm run bench -- rows` was asked for. */
export interface RowsOptions {
  /** Jobs in the ledger of the full world. */
  readonly rows: number;
  readonly pairs: number;
  readonly jobs: number;
}

const DEFAULT = { rows: 5_000_000, pairs: 5, jobs: 20_000 };

const USAGE = `usage: npm run bench -- rows [options]

  --json FILE     write raw runs, figures, settings and machine as JSON
  --rows N        jobs that the ledger holds already, 1000 to 50000000 (default 5000000)
  --pairs N       runs of each side, 1 to 50 (default 5)
  --jobs N        jobs of a run, 200 to ${RUN_JOBS_MAX} (default 20000)`;

/** Reads the options of the suite. Throws UsageError. */
export function rowsOptions(argv: readonly string[]): RowsOptions {
  const values = parsedAs(argv, {
    json: { type: 'string' },
    rows: { type: 'string' },
    pairs: { type: 'string' },
    jobs: { type: 'string' },
  });
  return {
    rows: integer('--rows', values.rows, 1_000, 50_000_000) ?? DEFAULT.rows,
    pairs: integer('--pairs', values.pairs, 1, 50) ?? DEFAULT.pairs,
    jobs: integer('--jobs', values.jobs, 200, RUN_JOBS_MAX) ?? DEFAULT.jobs,
  };
}

/** How much slower is saturated dispatch with millions of jobs in the ledger than with none? Two worlds, in pairs (A B B A). */
export const rows: Suite = {
  asks: 'how much slower it is with millions of jobs in the ledger (15 minutes)',
  usage: USAGE,
  run: (argv) => {
    const options = rowsOptions(argv);
    return withBench((bench) => measure(bench, options, argv));
  },
};

interface RowsRun extends SaturatedRun {
  readonly isFull: boolean;
}

async function measure(bench: Bench, options: RowsOptions, argv: readonly string[]): Promise<Findings> {
  const startedAt = new Date().toISOString();
  const place = makePlace(bench);
  const empty = await addTollgate(place, 'empty');
  const full = await addTollgate(place, 'full');
  const size = await fillHistory(full.client.world, options.rows, (done) => tell(`${done} rows are there`));
  tell(sizeLine(size));
  const runs: RowsRun[] = [];
  for (let pair = 0; pair < options.pairs; pair++)
    for (const isFull of alternating([false, true], pair)) {
      const run = await saturatedRun(place.ground, isFull ? full : empty, 'dispatch', pair, options.jobs);
      runs.push({ ...run, isFull });
      tell(`pair ${pair + 1}, ${isFull ? 'full' : 'empty'}: ${run.perSecond.toFixed(0)}/s`);
    }
  const ratesOf = (isFull: boolean): number[] =>
    runs
      .filter((run) => run.isFull === isFull)
      .toSorted((a, b) => a.pair - b.pair)
      .map((run) => run.perSecond);
  const [without, having] = [ratesOf(false), ratesOf(true)];
  const count = options.rows.toLocaleString('en');
  const id = `conditions/rows-${options.rows}`;
  return findingsOf(place, {
    suite: 'rows',
    startedAt,
    argv,
    runs,
    figures: [
      figure(`${id}/without`, 'saturated dispatch, empty ledger', '/s', without),
      figure(`${id}/with`, `saturated dispatch, ${count} jobs in the ledger`, '/s', having),
      figure(id, `${count} jobs in the ledger: with ÷ without`, '×', pairedRatios(having, without), {
        target: TARGETS.keptUnderCondition,
      }),
    ],
    notes: [sizeLine(size)],
  });
}

function sizeLine({ jobs, transfers, bytes }: LedgerSize): string {
  return `the full ledger before the runs: ${jobs.toLocaleString('en')} jobs, ${transfers.toLocaleString('en')} transfers, ${Math.round(bytes / 2 ** 20).toLocaleString('en')} MiB with indexes`;
}
