import t from 'tap';
import { readOptions, USAGE } from '../../src/demo/options.ts';

await t.test('without options it is the default load', async (t) => {
  t.same(readOptions([]), { jobs: null, seed: 1, json: null, trace: null, speed: 1 });
});

await t.test('every option is read', async (t) => {
  t.same(readOptions(['--jobs', '300', '--seed', '7', '--json', 'a.json']), {
    jobs: 300,
    seed: 7,
    json: 'a.json',
    trace: null,
    speed: 1,
  });
  t.match(readOptions(['--trace', 'a.csv', '--speed', '60', '--jobs', '5']), {
    trace: 'a.csv',
    speed: 60,
    jobs: 5,
  });
  t.equal(readOptions(['--help']), null);
  for (const option of ['--jobs', '--seed', '--json', '--trace', '--speed']) t.ok(USAGE.includes(option));
});

await t.test('a wrong command line says what is wrong', async (t) => {
  const cases: [string[], RegExp][] = [
    [['--jobs', '10'], /--jobs expects a whole number from 200 to 200000, got "10"/],
    [['--jobs', 'many'], /--jobs expects/],
    [['--seed', '-1'], /--seed/],
    [['--speed', '2'], /--speed is for --trace/],
    [['--trace', 'a.csv', '--speed', '0'], /--speed expects a whole number from 1/],
    [['--colour'], /colour/],
    [['more'], /more/],
  ];
  for (const [args, message] of cases)
    t.throws(() => readOptions(args), { code: 'TG_CLI_USAGE', message }, args.join(' '));
});
