import { join } from 'node:path';
import { BenchError } from '../bench-error.ts';
import { OWN_ROOT } from '../process/checkout.ts';
import { readObject } from './read-json.ts';

/** Written by hand, also after a run. */
const REMARKS = join(OWN_ROOT, 'bench/results/remarks.json');

/** Figure id → what was tried, and what holds it back. Throws BenchError for a file that says something else. */
export function readRemarks(file = REMARKS): Record<string, string> {
  const remarks: Record<string, string> = {};
  for (const [id, text] of Object.entries(readObject(file) ?? {})) {
    if (typeof text !== 'string') throw new BenchError(`${file}: ${id} is no text`);
    remarks[id] = text;
  }
  return remarks;
}
