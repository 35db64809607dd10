import t from 'tap';
import { Snapshot } from '../../src/audit/snapshot.ts';

const NOW_MS = 1_800_000_000_000;
const LONG_AGO_MS = NOW_MS - 7_200_000;

await t.test('a snapshot sees what was committed when it was taken', async (t) => {
  const snapshot = new Snapshot('100:110:103,107', NOW_MS);
  const seen = [99n, 100n, 102n, 109n];
  const unseen = [103n, 107n, 110n, 5_000n];
  for (const xid of seen) t.ok(snapshot.sees(xid, NOW_MS), `${xid} was committed`);
  for (const xid of unseen) t.notOk(snapshot.sees(xid, NOW_MS), `${xid} was running or to come`);
  t.ok(new Snapshot('5:5:', NOW_MS).sees(4n, NOW_MS));
  t.notOk(new Snapshot('5:5:', NOW_MS).sees(5n, NOW_MS));
});

await t.test('ids that have wrapped around keep their order', async (t) => {
  const epoch = 3n << 32n;
  const snapshot = new Snapshot(`${epoch + 2n}:${epoch + 6n}:${epoch + 4n}`, NOW_MS);
  t.ok(snapshot.sees(0xffff_ffffn, NOW_MS), 'the last of the epoch before');
  t.ok(snapshot.sees(5n, NOW_MS));
  t.notOk(snapshot.sees(4n, NOW_MS));
  t.notOk(snapshot.sees(6n, NOW_MS));
  const late = new Snapshot(`${epoch - 3n}:${epoch - 1n}:${epoch - 3n}`, NOW_MS);
  t.notOk(late.sees(3n, NOW_MS), 'the first of the next epoch');
  t.ok(late.sees(0xffff_fffen, NOW_MS));
});

await t.test('a row of long ago was committed, whatever its id looks like by now', async (t) => {
  const snapshot = new Snapshot('100:110:103', NOW_MS);
  t.ok(snapshot.sees(103n, LONG_AGO_MS));
  t.ok(snapshot.sees(0x7fff_ffffn, LONG_AGO_MS));
  t.ok(snapshot.sees(2n, NOW_MS), 'frozen');
});
