import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, realpathSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { findBinary } from '../../src/stack/binaries.ts';
import { machineMs, within } from '../measure/clock.ts';
import type { Owner } from '../process/owner.ts';

/** How often a second this machine's disk takes one page and says that it has it. */
export interface FlushRate {
  readonly perSecond: number;
  readonly by: string;
}

/** Our own loop's time; PostgreSQL's tool takes whole seconds, and one is the least. */
const OWN_MS = 1_000;
const TOOL_S = 1;
const TOOL_MS_MAX = 15_000;
const PAGE_BYTES = 8_192;

/**
 * Single-page writes with `fdatasync` in `folder`: by PostgreSQL's `pg_test_fsync` where it lies beside the server, else by a loop of
 * our own. It is what one commit costs at least.
 */
export async function flushRate(folder: string, owner: Owner): Promise<FlushRate> {
  const { found } = await findBinary('postgres');
  // What is on PATH may be a link out of the folder where PostgreSQL's other tools are.
  const tool = found === undefined ? '' : join(dirname(realpathSync(found.path)), 'pg_test_fsync');
  const file = join(folder, `bench-flush-${process.pid}`);
  try {
    return existsSync(tool)
      ? { perSecond: await toolRate(tool, file, owner), by: 'pg_test_fsync' }
      : { perSecond: await ownRate(file), by: 'our own loop' };
  } finally {
    await rm(file, { force: true });
  }
}

/** Runs PostgreSQL's tool until it has told of `fdatasync`; it would go on with methods that nobody here uses. */
async function toolRate(tool: string, file: string, owner: Owner): Promise<number> {
  const child = spawn(tool, ['-s', String(TOOL_S), '-f', file], { stdio: ['ignore', 'pipe', 'ignore'] });
  if (child.pid !== undefined) owner.adopt(child.pid);
  const exited = once(child, 'exit');
  const told = Promise.withResolvers<number>();
  let text = '';
  createInterface({ input: child.stdout }).on('line', (line) => {
    text += `${line}\n`;
    const perSecond = fdatasyncRate(text);
    if (perSecond !== null) told.resolve(perSecond);
  });
  void exited.then(() => told.reject(new Error(`pg_test_fsync said nothing of fdatasync:\n${text}`)));
  try {
    return await within(told.promise, TOOL_MS_MAX, 'pg_test_fsync');
  } finally {
    child.kill('SIGTERM');
    await exited;
  }
}

/** The first rate of `fdatasync`, of one page, in what `pg_test_fsync` prints; null where it is not there yet. */
export function fdatasyncRate(text: string): number | null {
  const rate = /^\s*fdatasync\s+([\d.]+) ops\/sec/m.exec(text)?.[1];
  return rate === undefined ? null : Number(rate);
}

/** The same by a loop of ours: the page is written over and over at the same place, as the tool does it. */
export async function ownRate(file: string, ms = OWN_MS): Promise<number> {
  const handle = await open(file, 'w', 0o600);
  try {
    const page = Buffer.alloc(PAGE_BYTES, 1);
    const startMs = machineMs();
    let flushes = 0;
    while (machineMs() - startMs < ms) {
      await handle.write(page, 0, PAGE_BYTES, 0);
      await handle.datasync();
      flushes += 1;
    }
    return (flushes * 1_000) / (machineMs() - startMs);
  } finally {
    await handle.close();
  }
}
