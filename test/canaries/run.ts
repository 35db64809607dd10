import { writeFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { stackEnvironment } from '../../src/stack/environment.ts';
import type { Stack } from '../../src/stack/stack.ts';
import { withStack } from '../../src/stack/with-stack.ts';
import { ROOT } from '../support/source-files.ts';
import {
  breakTree,
  type Canary,
  copyOfTree,
  type Ending,
  type NamedTest,
  readCanaries,
  runTest,
  titleOf,
} from './canary.ts';

/**
 * `npm run canaries [-- [--only NAMES] [--json FILE]]`: a test suite that stays green proves something only if it turns red for a
 * broken build. Each patch beside this file breaks one promise. It is applied to a copy of the tree, and the tests that its head
 * names must fail there; the same tests must pass in the tree itself, where each is run once. All share one set of servers.
 * Exits 1 if a canary survives.
 */
interface Row {
  readonly canary: string;
  readonly whatIsBroken: string;
  readonly test: string;
  /** The test in the tree as it is. */
  readonly control: Ending;
  /** The test in the broken copy. */
  readonly broken: Ending;
  readonly isCaught: boolean;
  readonly seconds: number;
}

const USAGE = `usage: npm run canaries -- [options]

  --only NAMES  some of the patches in test/canaries, without .patch and with commas between; may be given several times
  --json FILE   write what became of each as JSON

Exit status: 0 if all were caught; 1 if one survived; 2 for wrong options.
`;

/** What a test found is cut to this for its line; the report has all of it. */
const FOUND_CHARACTERS_MAX = 90;

const values = parsed();
if (values.help === true) {
  say(USAGE.trimEnd());
  process.exit();
}
const canaries = chosen(
  readCanaries(),
  (values.only ?? []).flatMap((names) => names.split(',')),
);
const startMs = performance.now();
const rows = await withStack(flyAll);
const caught = canaries.filter(({ name }) => isCaughtWholly(name));
const minutes = (performance.now() - startMs) / 60_000;
const controls = new Map(rows.map(({ test, control }) => [test, control.verdict]));
const passed = [...controls.values()].filter((verdict) => verdict === 'passed').length;
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ rows, minutes }, null, 2)}\n`);
say('');
for (const { name } of canaries) if (!isCaughtWholly(name)) say(`SURVIVED: ${name}`);
say(`control: ${passed} of ${controls.size} named tests pass on the unbroken tree`);
say(`${caught.length} of ${canaries.length} caught, in ${minutes.toFixed(1)} minutes`);
process.exitCode = caught.length === canaries.length ? 0 : 1;

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function parsed() {
  try {
    return parseArgs({
      options: {
        only: { type: 'string', multiple: true },
        json: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values;
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error));
  }
}

function refuse(why: string): never {
  process.stderr.write(`${why}\n\n${USAGE}`);
  process.exit(2);
}

function chosen(all: readonly Canary[], names: readonly string[]): readonly Canary[] {
  const unknown = names.filter((name) => !all.some((canary) => canary.name === name));
  if (unknown.length > 0) refuse(`no such canary: ${unknown.join(', ')}`);
  return all.filter(({ name }) => names.length === 0 || names.includes(name));
}

function isCaughtWholly(name: string): boolean {
  const own = rows.filter(({ canary }) => canary === name);
  return own.length > 0 && own.every(({ isCaught }) => isCaught);
}

async function flyAll(stack: Stack): Promise<Row[]> {
  const environment = { ...process.env, ...stackEnvironment(stack.urls) };
  const run = (test: NamedTest, folder: string) =>
    runTest(test, folder, environment, ({ pid }) => {
      if (pid !== undefined) stack.adopt(pid);
    });
  const copy = copyOfTree(stack.folder);
  const controlled = new Map<string, Ending>();
  const all: Row[] = [];
  for (const canary of canaries) {
    for (const test of canary.caughtBy) {
      const fromMs = performance.now();
      const title = titleOf(test);
      const control = controlled.get(title) ?? (await run(test, ROOT));
      controlled.set(title, control);
      const mend = breakTree(canary, copy);
      const broken = await run(test, copy);
      mend();
      const isCaught = control.verdict === 'passed' && broken.verdict === 'failed';
      const seconds = Math.round((performance.now() - fromMs) / 100) / 10;
      const { name, whatIsBroken } = canary;
      all.push({ canary: name, whatIsBroken, test: title, control, broken, isCaught, seconds });
      say(lineOf(canary, control, broken, isCaught, seconds));
    }
  }
  return all;
}

/** A canary in one line: what became of it, how long it took, and what the test found first. */
function lineOf(
  { name }: Canary,
  control: Ending,
  broken: Ending,
  isCaught: boolean,
  seconds: number,
): string {
  const verdict = isCaught ? 'caught  ' : 'SURVIVED';
  const found = isCaught
    ? (broken.why ?? '').slice(0, FOUND_CHARACTERS_MAX)
    : `whole: ${control.verdict}${control.why === null ? '' : ` (${control.why})`}, broken: ${broken.verdict}`;
  return `${verdict} ${name.padEnd(34)} ${seconds.toFixed(1).padStart(5)} s  ${found}`;
}
