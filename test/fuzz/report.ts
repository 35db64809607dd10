import type { InProcessReport } from './in-process.ts';
import type { RealReport } from './real.ts';

/** Everything that one run of the fuzzer found. */
export interface FuzzReport {
  readonly inProcess: InProcessReport;
  /** Null where no server was started. */
  readonly real: RealReport | null;
}

/** The report as one line. */
export function lineOf({ inProcess, real }: FuzzReport): string {
  const { seed, inputs, inputsPerSecond, refusedByCode, accepted, crashes, findings } = inProcess;
  const refused = Object.values(refusedByCode).reduce((sum, count) => sum + count, 0);
  const parts = [
    `fuzz seed ${seed}: ${inputs} inputs`,
    `${refused} refused with ${Object.keys(refusedByCode).length} codes`,
    `${accepted} accepted`,
    `crashes ${crashes}`,
    `findings ${findings.length}`,
    `p99 ${Math.round(inProcess.p99Us)} µs`,
    `${inputsPerSecond}/s`,
    `heap ${inProcess.heapBeforeMib.toFixed(1)} → ${inProcess.heapAfterMib.toFixed(1)} MiB`,
  ];
  if (real === null) return parts.join(', ');
  return [
    ...parts,
    `real ${real.sent} sent`,
    `${real.answered} of ${real.answerable} answered`,
    `ledger rows ${real.ledgerRows}`,
    `job rows ${real.jobRows}`,
    `left in queues ${real.leftInQueues}`,
    `audit ${real.audit}`,
    `findings ${real.findings.length}`,
  ].join(', ');
}
