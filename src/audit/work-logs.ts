import { createReadStream } from 'node:fs';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { TollgateError } from '../errors.ts';
import { isUuidV7 } from '../ids.ts';
import type { WorkLogLine } from '../workers/agent/work-log.ts';

/** One line and where it stands; `run` is null where it is none of ours. */
export interface LoggedRun {
  readonly where: string;
  readonly run: WorkLogLine | null;
}

/**
 * Reads the workers' own logs, line by line. A file named twice is read once, and a last line that is cut short is one that the
 * worker is still writing. Throws TollgateError (TG_CLI_USAGE) for a file that cannot be read.
 */
export async function* readWorkLogs(paths: readonly string[]): AsyncGenerator<LoggedRun> {
  for (const path of new Set(paths.map((one) => resolve(one)))) yield* readWorkLog(path);
}

async function* readWorkLog(path: string): AsyncGenerator<LoggedRun> {
  let number = 0;
  let before: LoggedRun | null = null;
  try {
    for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
      number += 1;
      if (before !== null) yield before;
      before = { where: `${path}:${number}`, run: parseLine(line) };
    }
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
    throw new TollgateError('TG_CLI_USAGE', `--worker-log: cannot read ${path} (${code})`, { cause: error });
  }
  if (before !== null && before.run !== null) yield before;
}

function parseLine(line: string): WorkLogLine | null {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return null;
  }
  return isRun(value) ? value : null;
}

const NUMBERS = ['received_at_ms', 'started_at_ms', 'finished_at_ms', 'attempt', 'session'] as const;

function isRun(value: unknown): value is WorkLogLine {
  if (typeof value !== 'object' || value === null) return false;
  const fields = new Map<string, unknown>(Object.entries(value));
  const job = fields.get('job');
  return (
    NUMBERS.every((name) => Number.isSafeInteger(fields.get(name))) &&
    typeof job === 'string' &&
    isUuidV7(job) &&
    typeof fields.get('node') === 'string'
  );
}
