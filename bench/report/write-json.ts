import { accessSync, constants, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { UsageError } from '../arguments.ts';

/**
 * Makes the folder of a file that is to be written when the work is done, and looks whether it can be: half an hour of measuring
 * is not to end in a wrong path. Throws UsageError, which names `option`.
 */
export function requireWritable(option: string, file: string): void {
  try {
    mkdirSync(dirname(file), { recursive: true });
    const found = statSync(file, { throwIfNoEntry: false });
    if (found?.isDirectory()) throw new Error('it is a folder');
    accessSync(found ? file : dirname(file), constants.W_OK);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new UsageError(`${option} ${file} cannot be written: ${why}`, { cause: error });
  }
}

/** Writes `value` as a result file, a line per field so that a change of one figure is a change of one line. */
export function writeJson(file: string, value: unknown): void {
  writeFileSync(file, `${JSON.stringify(value, null, 1)}\n`);
}
