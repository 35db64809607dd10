import t from 'tap';
import { fuzzInProcess } from './in-process.ts';

/** A seeded cut of `npm run fuzz`: what fails here fails there with the same seed, and `--only <index>` shows the input. */
const SEED = 1;
const INPUTS = 60_000;
/** What a run may keep: caches of the engine, not one byte per input. */
const HEAP_GROWTH_MIB_MAX = 8;

await t.test(
  'broken and forged messages are refused with a code and a field, whatever was done to them',
  async (t) => {
    const report = await fuzzInProcess(SEED, INPUTS);
    t.same(report.findings, []);
    t.equal(report.crashes, 0);
    t.ok(report.heapAfterMib - report.heapBeforeMib < HEAP_GROWTH_MIB_MAX, 'the heap is flat');
    t.ok(Object.keys(report.refusedByCode).length > 20, JSON.stringify(report.refusedByCode));
    t.ok(report.accepted > INPUTS / 10, 'and good ones are accepted');
    t.comment(`p99 ${report.p99Us} µs, ${report.inputsPerSecond}/s`);
  },
);
