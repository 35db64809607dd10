import { statfsSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { BenchError } from '../bench-error.ts';

/** Four servers, a daemon, a fleet and a client: on one core they only wait for each other. */
const CORES_MIN = 2;
const GIB = 2 ** 30;
/** What they take together at their largest, with a backlog in the broker. */
const MEMORY_BYTES_MIN = 3 * GIB;
/** The servers' data and logs, and the traces of every run. */
const DISK_BYTES_MIN = 3 * GIB;

/** What there is of what a bench needs. */
export interface Room {
  readonly cores: number;
  /** Available to this process, limits of its control group included. */
  readonly memoryBytes: number;
  /** Free in `folder`, where the servers keep their data. */
  readonly diskBytes: number;
  readonly folder: string;
}

/** What is too little for figures that mean something, a line each; empty: it will do. */
export function shortcomings({ cores, memoryBytes, diskBytes, folder }: Room): string[] {
  const lines: string[] = [];
  if (cores < CORES_MIN) lines.push(`${cores} core, and at least ${CORES_MIN} are needed`);
  if (memoryBytes < MEMORY_BYTES_MIN)
    lines.push(`${gib(memoryBytes)} of memory available, and at least ${gib(MEMORY_BYTES_MIN)} are needed`);
  if (diskBytes < DISK_BYTES_MIN)
    lines.push(`${gib(diskBytes)} free in ${folder}, and at least ${gib(DISK_BYTES_MIN)} are needed`);
  return lines;
}

function gib(bytes: number): string {
  return `${(bytes / GIB).toFixed(1)} GiB`;
}

/** Throws BenchError where this machine is too small to measure on. */
export function requireRoom(): void {
  const folder = tmpdir();
  const { bavail, bsize } = statfsSync(folder);
  const lines = shortcomings({
    cores: availableParallelism(),
    memoryBytes: process.availableMemory(),
    diskBytes: bavail * bsize,
    folder,
  });
  if (lines.length > 0)
    throw new BenchError(`this machine is too small, so nothing is measured: ${lines.join('; ')}`);
}
