import t from 'tap';
import { Progress, progressLine } from '../../src/demo/progress.ts';
import { until } from '../support/until.ts';

const GAUGES = { slotsUsed: 48, slotsTotal: 64, heldMicro: 2_421_600n };

function away(): Promise<never> {
  return Promise.reject(new Error('away'));
}

await t.test('the line says rate, done, in flight, slots and credits locked', async (t) => {
  t.equal(
    progressLine({ ...GAUGES, elapsedMs: 2_400, sent: 1_323, done: 1_277, total: 2_460, perSecond: 170.4 }),
    '   2 s    170/s  1,277 of 2,460 done  46 in flight  48 of 64 slots  2.4216 credits locked',
  );
});

await t.test('elsewhere than on a terminal it is a line a second', async (t) => {
  const written: string[] = [];
  const terminal = { write: (text: string) => written.push(text) };
  const progress = new Progress(
    terminal,
    () => performance.now(),
    () => ({ sent: 9, done: 7, total: 9 }),
    async () => GAUGES,
  );
  progress.start();
  await until(() => written.length >= 2, 'two lines');
  progress.stop();
  progress.stop();
  t.equal(written.length, 3, 'and a last one');
  t.ok(written.every((line) => /^[^\r\n]*\n$/.test(line)));
  t.match(written.at(-1), /7 of 9 done {2}2 in flight {2}48 of 64 slots/);
});

await t.test('on a terminal one line is written over and over, and cut to its width', async (t) => {
  const written: string[] = [];
  const terminal = { isTTY: true, columns: 40, write: (text: string) => written.push(text) };
  const progress = new Progress(
    terminal,
    () => performance.now(),
    () => ({ sent: 9, done: 7, total: 9 }),
    away,
  );
  progress.start();
  await until(() => written.length >= 2, 'two looks, though a server is away');
  progress.stop();
  t.equal(written.at(-1), '\n');
  t.ok(written.slice(0, -1).every((text) => text.startsWith('\r\u001b[2K') && text.length === 5 + 39));
});
