import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { hotpathOptions, PARTS, UsageError } from '../../bench/arguments.ts';

await t.test('without options all parts run in five pairs', async (t) => {
  t.same(hotpathOptions([]), {
    pairs: 5,
    jobs: 20_000,
    latencyS: 4,
    parts: PARTS,
    profile: null,
    trace: null,
    speed: null,
    traceJobsMax: 100_000,
  });
});

await t.test('--quick is one small pair, and what is given besides wins', async (t) => {
  const quick = hotpathOptions(['--quick']);
  t.equal(quick.pairs, 1);
  t.ok(quick.jobs < hotpathOptions([]).jobs);
  t.equal(hotpathOptions(['--quick', '--pairs', '2', '--jobs=500']).pairs, 2);
  t.equal(hotpathOptions(['--quick', '--pairs', '2', '--jobs=500']).jobs, 500);
});

await t.test('parts run in their own order, whatever order they are named in', async (t) => {
  t.same(hotpathOptions(['--only', 'latency,dispatch']).parts, ['dispatch', 'latency']);
});

await t.test('a wrong argument is refused by its name', async (t) => {
  const wrong: [readonly string[], RegExp][] = [
    [['--pairs', '0'], /--pairs expects a whole number from 1 to 50, got "0"/],
    [['--pairs', '1e1'], /--pairs/],
    [['--jobs', 'many'], /--jobs expects a whole number from 200 to 32000, got "many"/],
    [['--jobs'], /--jobs/],
    [['--only', 'dispatch,sleep'], /--only knows dispatch, life, latency, got "sleep"/],
    [['--only', ''], /--only/],
    [['--fast'], /--fast/],
    [['more'], /more/],
  ];
  for (const [argv, message] of wrong) {
    t.throws(() => hotpathOptions(argv), UsageError, argv.join(' '));
    t.throws(() => hotpathOptions(argv), { message }, argv.join(' '));
  }
});

function bench(...args: string[]) {
  const main = fileURLToPath(new URL('../../bench/main.ts', import.meta.url));
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

await t.test('an unknown suite is told which ones there are', async (t) => {
  for (const args of [[], ['coldpath'], ['constructor']]) {
    const { status, stdout, stderr } = bench(...args);
    t.equal(status, 2);
    t.equal(stdout, '');
    t.match(stderr, /no suite/);
    t.match(stderr, /hotpath/);
  }
});

await t.test('help goes to standard output, a usage error to standard error', async (t) => {
  t.match(bench('--help'), { status: 0, stdout: /hotpath/, stderr: '' });
  t.match(bench('hotpath', '--help'), { status: 0, stdout: /--pairs N/, stderr: '' });
  t.match(bench('hotpath', '--pairs', 'x'), { status: 2, stdout: '', stderr: /--pairs expects/ });
});
