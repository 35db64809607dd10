import t from 'tap';
import { fuzzReal } from './real.ts';

const SEED = 1;
const INPUTS = 500;

await t.test(
  'a coordinator answers every stranger with a code, lives, and keeps no row of what it refused',
  async (t) => {
    const report = await fuzzReal(t, SEED, INPUTS);
    t.same(report.findings, []);
    t.match(report, { sent: INPUTS, jobRows: 0, ledgerRows: 0, leftInQueues: 0, audit: 'ok' });
    t.equal(report.answered, report.answerable);
  },
);
