import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { readTrace, type TraceArrival } from '../../src/demo/trace-file.ts';
import { TollgateError } from '../../src/errors.ts';
import { UsageError } from '../arguments.ts';
import { within } from '../measure/clock.ts';
import { type LatencyRun, latenciesOf, RUN_MS_MAX, SETTLE_MS, startMeter } from '../measure/runs.ts';
import { tellsP999 } from '../measure/statistics.ts';
import { type Figure, figure, type Findings } from '../report/findings.ts';
import type { TollgateSubject } from '../subjects/subject.ts';
import { BYTES_PER_TOKEN, INPUT_TOKENS_MAX, makeJob } from '../world/jobs.ts';
import { addTollgate, findingsOf, makePlace, type Place } from './place.ts';
import { type Bench, tell } from './suite.ts';

/** A recorded load, and how much faster it is replayed. */
export interface Replay {
  readonly file: string;
  readonly arrivals: readonly TraceArrival[];
  readonly speed: number;
}

/** A replay of which nobody asked for a speed lasts no longer. */
const REPLAY_MS_MAX = 120_000;

/** Of a job's body besides its prompt, about. */
const ENVELOPE_BYTES = 600;

/** Reads a recorded load. `speed` null: as fast as it takes to last two minutes. Throws UsageError naming file and line. */
export async function readReplay(file: string, speed: number | null, jobsMax: number): Promise<Replay> {
  const stream = createReadStream(file);
  try {
    const arrivals = await readTrace(createInterface({ input: stream, crlfDelay: Infinity }), jobsMax);
    return { file, arrivals, speed: speed ?? speedFor(arrivals.at(-1)?.atMs ?? 0) };
  } catch (error) {
    if (error instanceof TollgateError) throw new UsageError(`${file}: ${error.message}`, { cause: error });
    const reason = error instanceof Error ? error.message : String(error);
    throw new UsageError(`--trace: cannot read ${file}: ${reason}`, { cause: error });
  } finally {
    stream.destroy();
  }
}

/** The least whole speed by which a load of `durationMs` lasts two minutes at most. */
export function speedFor(durationMs: number): number {
  return Math.max(1, Math.ceil(durationMs / REPLAY_MS_MAX));
}

/** Bytes of the job that stands for a request with so many tokens of context; beyond what a model takes it is cut. */
export function bodyBytesOf(contextTokens: number): number {
  const promptBytesMax = INPUT_TOKENS_MAX * BYTES_PER_TOKEN - ENVELOPE_BYTES;
  return ENVELOPE_BYTES + Math.min(contextTokens * BYTES_PER_TOKEN, promptBytesMax);
}

/** Replays a recorded load through Tollgate, open loop: each request is sent when it is due, whatever became of the others. */
export async function measureReplay(
  bench: Bench,
  replay: Replay,
  argv: readonly string[],
): Promise<Findings> {
  const startedAt = new Date().toISOString();
  const place = makePlace(bench);
  const subject = await addTollgate(place, 'tollgate');
  const run = await replayRun(place, subject, replay);
  const { file, arrivals, speed } = replay;
  return findingsOf(place, {
    suite: 'hotpath',
    startedAt,
    argv,
    runs: [run],
    figures: replayFigures(run),
    notes: [`${arrivals.length} requests of ${file}, ${speed} times as fast as recorded`],
  });
}

/** A replay, with the rates by which jobs were due and arrived. */
export interface ReplayRun extends LatencyRun {
  readonly duePerSecond: number;
  /** From when the last request was due until the last job arrived. */
  readonly tailMs: number;
}

/** A load that ends in a burst is behind at its end; one that was kept up with is done with it by then. */
const TAIL_MS_MAX = 2_000;

async function replayRun(
  { ground }: Place,
  subject: TollgateSubject,
  { arrivals, speed }: Replay,
): Promise<ReplayRun> {
  const { client } = subject;
  const { fleet } = ground;
  const world = client.world.name;
  const timed = arrivals.map(({ atMs, contextTokens }) => ({
    message: makeJob(bodyBytesOf(contextTokens)),
    atMs: atMs / speed,
  }));
  const lastMs = timed.at(-1)?.atMs ?? 0;
  tell(`replaying ${timed.length} requests in ${(lastMs / 1_000).toFixed(0)} s`);
  // Answered as they come: a replay may last longer than a lease.
  await fleet.call('expect', { world, jobs: timed.length, answers: 'at once' });
  client.expectReplies(timed.length);
  await subject.begin();
  await sleep(SETTLE_MS);
  const meter = startMeter(ground);
  const departures = await client.publishAt(timed);
  const came = await within(fleet.call('arrived', world), RUN_MS_MAX, 'the last dispatch of the trace');
  await within(client.replied(), RUN_MS_MAX, 'the last reply of the trace');
  const used = meter();
  const atMs = await fleet.call('times', world);
  await subject.end();
  return {
    kind: 'latency',
    subject: 'tollgate',
    pair: 0,
    perSecond: (came.jobs * 1_000) / (came.lastMs - came.firstMs),
    duePerSecond: (timed.length * 1_000) / lastMs,
    tailMs: came.lastMs - (departures.at(-1)?.dueMs ?? Number.NaN),
    ...latenciesOf(departures, atMs),
    ...used,
  };
}

/** Of a replay that was not kept up with there are no latencies, but what was left over. */
export function replayFigures(run: ReplayRun): Figure[] {
  const { latencyMs, latenessMs, backlog, perSecond, duePerSecond, tailMs } = run;
  const rates = [
    figure('trace/rate-due', 'trace, requests due', '/s', [duePerSecond]),
    figure('trace/rate', 'trace, requests dispatched', '/s', [perSecond]),
    figure('trace/lateness/p50', "trace, the generator's own lateness, p50", 'ms', [latenessMs.p50]),
    figure('trace/lateness/p99', "trace, the generator's own lateness, p99", 'ms', [latenessMs.p99]),
  ];
  if (tailMs > TAIL_MS_MAX)
    return [
      ...rates,
      figure('trace/backlog', 'trace NOT SUSTAINED, backlog at the end', 'jobs', [backlog.end]),
    ];
  return [
    ...rates,
    figure('trace/latency/p50', 'trace, latency, p50', 'ms', [latencyMs.p50]),
    figure('trace/latency/p95', 'trace, latency, p95', 'ms', [latencyMs.p95]),
    figure('trace/latency/p99', 'trace, latency, p99', 'ms', [latencyMs.p99]),
    ...(tellsP999(latencyMs)
      ? [figure('trace/latency/p999', 'trace, latency, p99.9', 'ms', [latencyMs.p999])]
      : []),
  ];
}
