import t from 'tap';
import { INVARIANTS } from '../../src/audit/catalogue.ts';
import { type Corruption, corruptionsOf } from './corruptions.ts';
import { brokenIn, scene } from './scene.ts';

/** What is missing in the traces is broken as soon as a job is two seconds old. */
const SOON = ['--set', 'line.stageRetryMs=1000'];

// About thirty runs of the command, each a process of its own.
t.setTimeout(120_000);
await t.test('the audit', { timeout: 110_000 }, async (t) => {
  const stage = await scene(t);

  await t.test('finds nothing broken while jobs run', async (t) => {
    const busy = Array.from({ length: 60 }, () => stage.world.job());
    const sending = Promise.all(busy.map((job) => stage.world.send(job)));
    const [first, second] = await Promise.all([stage.audit(), stage.audit(), sending]);
    for (const { status, report } of [first, second])
      t.match({ status, broken: brokenIn(report) }, { status: 0, broken: [] });
    await Promise.all(busy.map((job) => stage.world.reply(job.id)));
  });

  await t.test('checks every invariant, and each holds', async (t) => {
    await stage.world.stopDaemon();
    const { status, report } = await stage.audit('--worker-log', stage.workLog);
    t.match({ status, verdict: report.verdict }, { status: 0, verdict: 'ok' });
    t.same(
      report.invariants.map(({ id }) => id),
      Object.keys(INVARIANTS),
    );
    for (const { id, verdict, checked, examples } of report.invariants)
      t.ok(verdict === 'ok' && checked > 0, `${id}: ${verdict}, ${checked} ${JSON.stringify(examples)}`);
  });

  const corruptions = await corruptionsOf(stage);
  const auditWith = async ({ spoil, restore, workLog = stage.workLog }: Corruption) => {
    await spoil();
    try {
      return await stage.audit('--worker-log', workLog, ...SOON);
    } finally {
      await restore();
    }
  };
  for (const [id, corruption] of Object.entries(corruptions)) {
    await t.test(`names ${id} when it is broken`, async (t) => {
      const { status, report } = await auditWith(corruption);
      t.match({ status, verdict: report.verdict }, { status: 1, verdict: 'broken' });
      const found = report.invariants.filter(({ examples }) => examples.length > 0);
      t.same(brokenIn(report), corruption.named, JSON.stringify(found));
      t.match(found.find((one) => one.id === id)?.examples[0], { id: /./, what: /./ });
    });
  }

  await t.test('repair shows what would make good an overcharge, and changes nothing', async (t) => {
    t.same(await stage.repair(), { repairs: [] });
    const { spoil, restore } = corruptions['credits.capture_within_lock'];
    await spoil();
    const before = await stage.world.books.credits();
    const { repairs } = await stage.repair();
    t.equal(await stage.world.books.credits(), before);
    await restore();
    t.match(
      repairs.find((one) => one['invariant'] === 'credits.capture_within_lock'),
      {
        subject: stage.jobs.succeeded,
        done_by: 'top_up',
        command: /^tollgate account top-up acme --credits 0\.001 --id [0-9a-f-]{36}$/,
      },
    );
    t.match(
      repairs.find((one) => one['invariant'] === 'credits.counters'),
      { done_by: 'operator', command: null },
    );
  });

  await t.test('is content again when all was put right', async (t) => {
    const { status, report } = await stage.audit('--worker-log', stage.workLog);
    t.same({ status, verdict: report.verdict }, { status: 0, verdict: 'ok' });
  });
});
