import t from 'tap';
import { cpuBetween, cpuMsOf, machineCpuOf, readCpu, readMachineCpu } from '../../bench/measure/cpu.ts';
import { byFunction, byOurFunction, type CpuProfile, timeShares } from '../../bench/measure/profile.ts';
import { foreignShare } from '../../bench/measure/runs.ts';
import { weakSettings, writeConcernOf } from '../../bench/measure/settings.ts';

await t.test("a process's time is its own and that of the children it has collected", async (t) => {
  const stat = '42 (a (strange) name) S 1 42 42 0 -1 4194304 10 0 0 0 100 20 3 4 20 0 1 0 12345 0 0';
  t.equal(cpuMsOf(stat), 1_270);
});

await t.test("the machine's busy time leaves out waiting and counts what was stolen apart", async (t) => {
  const stat = 'cpu  100 10 50 9000 800 5 15 7 0 0\ncpu0 1 2 3 4\n';
  t.same(machineCpuOf(stat), { busyMs: 1_800, stolenMs: 70 });
});

await t.test('this process can be read, and one that is gone has used nothing', async (t) => {
  const cpu = readCpu({ us: { pid: process.pid }, gone: { pid: 2 ** 22 } });
  t.ok((cpu['us'] ?? 0) > 0);
  t.equal(cpu['gone'], 0);
  t.ok(readMachineCpu().busyMs > (cpu['us'] ?? 0));
});

await t.test('what others used is what we did not, and never less than nothing', async (t) => {
  const before = { busyMs: 1_000, stolenMs: 0 };
  t.equal(foreignShare(before, { busyMs: 2_000, stolenMs: 100 }, { a: 500, b: 100 }, 2_000), 0.25);
  t.equal(foreignShare(before, { busyMs: 1_000, stolenMs: 0 }, { a: 20 }, 2_000), 0);
  t.same(cpuBetween({ a: 5 }, { a: 8, b: 2 }), { a: 3, b: 2 });
});

await t.test('a setting that is weaker than stated is found', async (t) => {
  const strong = { server: 'postgres', name: 'fsync', value: 'on', needed: 'on' } as const;
  const weak = { server: 'postgres', name: 'synchronous_commit', value: 'off', needed: 'on' } as const;
  t.same(weakSettings([strong, weak]), [weak]);
});

function frame(functionName: string, url: string) {
  return { functionName, url, lineNumber: 9 };
}

const PROFILE: CpuProfile = {
  nodes: [
    { id: 1, callFrame: frame('(root)', ''), children: [2, 3, 5, 6] },
    { id: 2, callFrame: frame('(idle)', '') },
    {
      id: 3,
      callFrame: frame('parse', 'file:///somewhere/src/tollgate/dist/contracts/parse.js'),
      children: [4],
    },
    { id: 4, callFrame: frame('', 'file:///somewhere/node_modules/pg-protocol/dist/parser.js') },
    { id: 5, callFrame: frame('(garbage collector)', '') },
    { id: 6, callFrame: frame('write', 'node:net') },
  ],
  samples: [2, 3, 4, 3, 5, 6],
  timeDeltas: [1_000, 30, 20, 30, 10, 10],
};

await t.test('idle time is no time of a function, and paths are shown from the package on', async (t) => {
  t.same(timeShares([PROFILE, PROFILE], byFunction), [
    { name: 'parse dist/contracts/parse.js:10', share: 0.6 },
    { name: '(anonymous) node_modules/pg-protocol/dist/parser.js:10', share: 0.2 },
    { name: '(garbage collector)', share: 0.1 },
    { name: 'write node:net:10', share: 0.1 },
  ]);
});

await t.test('what a driver does for us counts for our function that called it', async (t) => {
  t.same(timeShares([PROFILE], byOurFunction), [
    { name: 'parse dist/contracts/parse.js:10', share: 0.8 },
    { name: '(none of ours on the stack)', share: 0.2 },
  ]);
});

await t.test('the write concern of an insert is read from its text where the profiler cut it', async (t) => {
  const needed = '{"w":"majority","j":true}';
  t.equal(writeConcernOf({ concern: { w: 'majority', j: true }, text: '' }), needed);
  const text =
    '{ insert: "requests", ordered: false, writeConcern: { w: "majority", j: true }, documents: [ { _id';
  t.equal(writeConcernOf({ text }), needed);
  t.equal(writeConcernOf({ text: text.replace('"majority"', '1') }), '{"w":1,"j":true}');
  t.equal(writeConcernOf({ text: '{ insert: "requests"' }), 'not told');
});
