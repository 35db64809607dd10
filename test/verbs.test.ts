import { execFile } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { ROOT } from './support/source-files.ts';

/** The programs behind the verbs of package.json, by what they are called there. */
const PROGRAMS = {
  demo: 'src/demo/main.ts',
  bench: 'bench/main.ts',
  chaos: 'chaos/main.ts',
  simulate: 'simulation/main.ts',
  canaries: 'test/canaries/run.ts',
  fuzz: 'test/fuzz/main.ts',
};

/** How the program ended, and what it said. */
function run(program: string, args: readonly string[]) {
  return new Promise<{ status: unknown; said: string; complained: string }>((resolve) =>
    execFile(process.execPath, [join(ROOT, program), ...args], (error, said, complained) =>
      resolve({ status: error === null ? 0 : error.code, said, complained }),
    ),
  );
}

for (const [verb, program] of Object.entries(PROGRAMS)) {
  await t.test(`npm run ${verb} says what it takes, and what is wrong with what it got`, async (t) => {
    const help = await run(program, ['--help']);
    t.equal(help.status, 0);
    t.match(help.said, new RegExp(`npm run ${verb}`));
    const wrong = await run(program, ['--nonsense']);
    t.equal(wrong.status, 2);
    t.match(wrong.complained, /--nonsense/);
    t.notMatch(wrong.complained, /^ {4}at /m, 'without a stack of calls');
  });
}
