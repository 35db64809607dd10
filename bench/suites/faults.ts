import { statSync } from 'node:fs';
import { parsedWithWords, UsageError } from '../arguments.ts';
import { BenchError } from '../bench-error.ts';
import { faultFigures, type FaultSummary, faultSummary } from '../report/faults.ts';
import type { Findings } from '../report/findings.ts';
import { readObject } from '../report/read-json.ts';
import { headOf, type Suite } from './suite.ts';

const USAGE = `usage: npm run bench -- faults REPORT.json... [options]

  REPORT.json     what npm run chaos wrote with --json; a run must be in one of them only
  --json FILE     write the sums as JSON: bench/results/faults.json`;

/** Measures nothing itself: it adds up what the chaos runs found, for `all` to read. */
export const faults: Suite = {
  asks: 'what the reports of npm run chaos come to',
  usage: USAGE,
  run: async (argv) => {
    const files = filesOf(argv);
    const reports = files.map(readReport);
    return findingsOf(reports, argv);
  },
};

interface Report {
  readonly file: string;
  /** When it was written: it says no time itself. */
  readonly atMs: number;
  readonly summary: FaultSummary;
}

function filesOf(argv: readonly string[]): string[] {
  const { positionals } = parsedWithWords(argv, { json: { type: 'string' } });
  if (positionals.length === 0) throw new UsageError('which reports? REPORT.json is missing');
  return positionals;
}

function readReport(file: string): Report {
  const report = readObject(file);
  if (report === null) throw new BenchError(`${file}: there is no such file`);
  return { file, atMs: statSync(file).mtimeMs, summary: faultSummary(file, report) };
}

function findingsOf(reports: readonly Report[], argv: readonly string[]): Findings {
  const summaries = reports.map(({ summary }) => summary);
  const commits = [...new Set(summaries.flatMap((one) => one.commits))];
  const latestMs = Math.max(...reports.map(({ atMs }) => atMs));
  const head = headOf('faults', argv, new Date(latestMs).toISOString());
  return {
    ...head,
    machine: { ...head.machine, commit: commits.length === 0 ? null : commits.join(', ') },
    versions: {},
    settings: [],
    figures: faultFigures(summaries),
    notes: reports.map(({ file, atMs, summary }) => noteOf(file, atMs, summary)),
    disturbances: [],
    runs: summaries,
  };
}

function noteOf(file: string, atMs: number, { seeds, minutes, kills, others }: FaultSummary): string {
  const date = new Date(atMs).toISOString().slice(0, 10);
  return `${file}, ${date}: npm run chaos, seeds ${seeds.join(', ')}, ${minutes} minutes, ${kills} kills, ${others} other faults`;
}
