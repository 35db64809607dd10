import { readFileSync } from 'node:fs';
import { BenchError } from '../bench-error.ts';
import type { Findings } from './findings.ts';
import type { Whole } from './whole.ts';

/** The JSON object in a file; null when there is no such file. Throws BenchError when it holds something else. */
export function readObject(file: string): Readonly<Record<string, unknown>> | null {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw new BenchError(`${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
  const value = parsed(file, text);
  if (!isObject(value)) throw new BenchError(`${file} holds no JSON object`);
  return value;
}

/** What a suite wrote with `--json`; null when there is no such file. Throws BenchError when it is something else. */
export function readFindings(file: string, suite: string): Findings | null {
  const value = readObject(file);
  if (value === null) return null;
  if (value['suite'] !== suite || !hasFigures(value['figures']) || !Array.isArray(value['disturbances']))
    throw new BenchError(`${file} was not written by npm run bench -- ${suite} --json`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- written by `main.ts` from this type, and looked at above.
  return value as unknown as Findings;
}

/** What `all --json` wrote; null when there is no such file. Throws BenchError when it is something else. */
export function readWhole(file: string): Whole | null {
  const value = readObject(file);
  if (value === null) return null;
  if (value['version'] !== 1 || !Array.isArray(value['rows']) || !Array.isArray(value['outcomes']))
    throw new BenchError(`${file} was not written by npm run bench -- all --json`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- written by `all` from this type, and looked at above.
  return value as unknown as Whole;
}

function parsed(file: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new BenchError(`${file} is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function hasFigures(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.every((one) => isObject(one) && typeof one['id'] === 'string' && Array.isArray(one['values']))
  );
}

/** True for what JSON writes in braces. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
