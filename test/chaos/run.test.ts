import { join } from 'node:path';
import t from 'tap';
import { runChaos } from '../../chaos/run.ts';
import { startStack } from '../../src/stack/stack.ts';

// Servers of its own are started, and everything has a minute to reach its end.
t.setTimeout(240_000);

/**
 * The cut of `npm run chaos` that every change has to pass: one coordinator alone, so that each kill is an outage. The seed is one
 * whose first faults are of different kinds.
 */
await t.test('a quarter of a minute of faults leave zeros in every column that must be zero', async (t) => {
  const stack = await startStack({ environment: {} });
  t.after(() => stack.stop());
  const lines: string[] = [];
  const report = await runChaos(
    stack,
    join(stack.folder, 'chaos'),
    { seed: 3, minutes: 1 / 4, jobsPerSecond: 30, everyMs: 500, isSoak: false, isOverlapping: false },
    (line) => lines.push(line),
  );
  if (!report.isGood)
    t.comment(JSON.stringify({ ...report, recoveries: null, schedule: null, lines }, null, 1));
  t.ok(report.isGood);
  const { verdict, faults } = report;
  t.ok(verdict.acknowledged > 200, `${verdict.acknowledged} messages`);
  t.ok(faults.kills + faults.others >= 3);
  t.ok(verdict.probes > 2);
  t.equal(faults.failed, 0, 'each fault could be done');
  t.equal(report.coordinators, 1);
});
