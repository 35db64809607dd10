import { readFileSync } from 'node:fs';

/** Resident memory of a process in MiB: now, and the most that it had at any moment since it started. */
export interface ResidentMemory {
  readonly rssMiB: number;
  readonly peakMiB: number;
}

/** Reads it from the kernel. Throws when the process is gone. */
export function residentMemory(pid: number): ResidentMemory {
  return residentMemoryOf(readFileSync(`/proc/${pid}/status`, 'utf8'));
}

/** Reads `VmRSS` and `VmHWM` from the text of /proc/PID/status, which counts in KiB. Source: proc(5). */
export function residentMemoryOf(status: string): ResidentMemory {
  const mib = (field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? Number.NaN) / 1_024;
  return { rssMiB: mib('VmRSS'), peakMiB: mib('VmHWM') };
}

const STEPS = '▁▂▃▄▅▆▇█';

/**
 * A series as one line of at most `columns` bars: each is the largest value of its part, between the least and the largest of all
 * of them. A flat series is all low.
 */
export function bars(values: readonly number[], columns: number): string {
  const width = Math.max(1, Math.ceil(values.length / columns));
  const tops: number[] = [];
  for (let from = 0; from < values.length; from += width)
    tops.push(Math.max(...values.slice(from, from + width)));
  const low = Math.min(...tops);
  const span = Math.max(...tops) - low;
  return tops
    .map((top) => STEPS[span === 0 ? 0 : Math.round(((top - low) / span) * (STEPS.length - 1))])
    .join('');
}
