import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import { SteadyLoad } from './steady-load.ts';
import { type World, type WorldOptions, world } from './world.ts';

/** A world whose daemons are processes of their own, with a load on it and workers that keep logs. */
export interface BusyWorld {
  readonly tollgate: World;
  readonly load: SteadyLoad;
  /** Files of the workers' own logs. */
  readonly workerLogs: readonly string[];
}

/** Starts one coordinator, two workers of 8 slots, and a load whose answers take long enough that some are always under way. */
export async function busyWorld(
  t: Test,
  jobsPerSecond: number,
  settings: WorldOptions['settings'] = {},
): Promise<BusyWorld> {
  const tollgate = await world(t, {
    workers: 0,
    isDaemonStarted: false,
    model: { tokensPerSecond: 100 },
    settings: { 'fleet.heartbeatMs': 1_000, 'fleet.lostAfterMs': 5_000, ...settings },
  });
  await tollgate.startChildDaemon(t);
  const folder = t.testdir();
  const workerLogs = ['n1', 'n2'].map((node) => join(folder, `${node}.jsonl`));
  for (const [i, logFile] of workerLogs.entries()) {
    await tollgate.addNode(`n${i + 1}`);
    await tollgate.startWorker(`n${i + 1}`, 8, { logFile });
  }
  const limits = { ...tollgate.job().limits, wait_ms: 120_000, timeout_ms: 60_000 };
  const load = new SteadyLoad(tollgate.client, jobsPerSecond, () => tollgate.job({ limits }));
  return { tollgate, load, workerLogs };
}

/** `<job>.<attempt>` of every run that the workers' own logs have, in no order. */
export async function runsOf(workerLogs: readonly string[]): Promise<string[]> {
  const texts = await Promise.all(workerLogs.map((file) => readFile(file, 'utf8')));
  const lines = texts.flatMap((text) => text.split('\n')).filter((line) => line !== '');
  return lines.map((line) => {
    const run: { job: string; attempt: number } = JSON.parse(line);
    return `${run.job}.${run.attempt}`;
  });
}
