import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../../test/support/until.ts';
import { integer, parsedAs } from '../arguments.ts';
import { BenchError } from '../bench-error.ts';
import { machineMs } from '../measure/clock.ts';
import { residentMemory } from '../measure/memory.ts';
import { RUN_MS_MAX, type SaturatedRun, startMeter } from '../measure/runs.ts';
import type { Findings } from '../report/findings.ts';
import type { TollgateSubject } from '../subjects/subject.ts';
import { Pump } from '../world/pump.ts';
import { type MemorySample, memoryFigures, memoryLines } from './memory-figures.ts';
import { addTollgate, findingsOf, makePlace, type Place } from './place.ts';
import { type Bench, type Suite, tell, withBench } from './suite.ts';

const MINUTES = 10;
const SAMPLE_MS = 5_000;

const USAGE = `usage: npm run bench -- memory [options]

  --json FILE     write samples, figures, settings and machine as JSON
  --minutes N     length of the run, 1 to 600 (default ${MINUTES})`;

/** How long the suite was asked to run. Throws UsageError. */
export function memoryMinutes(argv: readonly string[]): number {
  const { minutes } = parsedAs(argv, { json: { type: 'string' }, minutes: { type: 'string' } });
  return integer('--minutes', minutes, 1, 600) ?? MINUTES;
}

/** Does the daemon's memory stay flat while whole lives saturate it, and how much is it? */
export const memory: Suite = {
  asks: 'whether its memory stays flat under load (10 minutes)',
  usage: USAGE,
  run: (argv) => {
    const minutes = memoryMinutes(argv);
    return withBench((bench) => measure(bench, minutes, argv));
  },
};

/** The one long run, with what was used in it. */
interface MemoryRun extends Pick<SaturatedRun, 'cpuMs' | 'foreignShare'> {
  readonly samples: readonly MemorySample[];
}

async function measure(bench: Bench, minutes: number, argv: readonly string[]): Promise<Findings> {
  const startedAt = new Date().toISOString();
  const place = makePlace(bench);
  const subject = await addTollgate(place, 'tollgate');
  const run = await saturate(place, subject, minutes * 60_000);
  return findingsOf(place, {
    suite: 'memory',
    startedAt,
    argv,
    figures: memoryFigures(run.samples),
    notes: memoryLines(run.samples),
    runs: [run],
  });
}

/** Full lives for `durationMs` with a bounded backlog. All jobs must succeed, or there are no figures. */
async function saturate({ ground }: Place, subject: TollgateSubject, durationMs: number): Promise<MemoryRun> {
  const { client, pid } = subject;
  const world = client.world.name;
  const jobs = Number.POSITIVE_INFINITY;
  await ground.fleet.call('expect', { world, jobs, answers: 'at once', keepsTimes: false });
  await subject.begin();
  const pump = new Pump(client);
  const meter = startMeter(ground);
  const startMs = machineMs();
  const samples: MemorySample[] = [];
  for (let n = 1; n * SAMPLE_MS <= durationMs; n++) {
    await sleep(Math.max(0, startMs + n * SAMPLE_MS - machineMs()));
    const sample = { atMs: machineMs() - startMs, ...residentMemory(pid), replies: client.replies.count };
    samples.push(sample);
    if ((n * SAMPLE_MS) % 60_000 === 0)
      tell(`minute ${(n * SAMPLE_MS) / 60_000}: ${sample.rssMiB.toFixed(0)} MiB, ${sample.replies} lives`);
  }
  const used = meter();
  await pump.stop();
  await until(() => client.replies.count >= pump.sent, 'the last replies', { timeoutMs: RUN_MS_MAX });
  await subject.end();
  const { count, refusals } = client.replies;
  if (refusals > 0 || count !== pump.sent)
    throw new BenchError(`of ${pump.sent} jobs ${count - refusals} succeeded and ${refusals} did not`);
  return { samples, ...used };
}
