import { stackEnvironment } from '../../src/stack/environment.ts';
import type { Stack } from '../../src/stack/stack.ts';
import { withStack } from '../../src/stack/with-stack.ts';
import { ROOT } from '../support/source-files.ts';
import { applyPatch, type Canary, copyOfTree, readCanaries, runTest, type Verdict } from './canary.ts';

/**
 * `npm run canaries [-- NAME…]`: a test suite that stays green proves something only if it turns red for a broken build. Each
 * patch beside this file breaks one promise; here it is applied to a copy of the tree, and the tests that its head names must
 * fail there and pass in the tree itself. Exits 1 if a canary survives.
 */
interface Row {
  readonly canary: string;
  readonly test: string;
  readonly whole: Verdict;
  readonly broken: Verdict;
}

const wanted = process.argv.slice(2);
const canaries = readCanaries().filter(({ name }) => wanted.length === 0 || wanted.includes(name));

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

const rows = await withStack(async (stack) => {
  const environment = { ...process.env, ...stackEnvironment(stack.urls) };
  const all: Row[] = [];
  for (const canary of canaries) all.push(...(await release(canary, environment, stack)));
  return all;
});

/** Lets one canary fly: its tests here, then in the copy that it broke. */
async function release(
  canary: Canary,
  environment: Readonly<Record<string, string | undefined>>,
  stack: Stack,
): Promise<Row[]> {
  const found: Row[] = [];
  say(`${canary.name}: ${canary.whatIsBroken}`);
  const copy = copyOfTree(stack.folder);
  applyPatch(canary, copy);
  for (const test of canary.caughtBy) {
    const run = (folder: string) =>
      runTest(test, folder, environment, ({ pid }) => {
        if (pid !== undefined) stack.adopt(pid);
      });
    const row = {
      canary: canary.name,
      test: [test.file, ...test.path].join(' > '),
      whole: await run(ROOT),
      broken: await run(copy),
    };
    say(
      `  ${isCaught(row) ? 'caught' : 'SURVIVED'} by ${row.test} (whole: ${row.whole}, broken: ${row.broken})`,
    );
    found.push(row);
  }
  return found;
}

function isCaught(row: Row): boolean {
  return row.whole === 'passed' && row.broken === 'failed';
}

const survivors = canaries.filter(({ name }) => {
  const own = rows.filter((row) => row.canary === name);
  return own.length === 0 || !own.every(isCaught);
});
say('');
for (const { name } of canaries)
  say(`${name.padEnd(28)} ${survivors.some((one) => one.name === name) ? 'SURVIVED' : 'caught'}`);
say(`${canaries.length - survivors.length} of ${canaries.length} broken builds caught`);
process.exitCode = survivors.length === 0 && canaries.length > 0 ? 0 : 1;
