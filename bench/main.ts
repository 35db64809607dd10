import { FLOOD_USAGE, HOTPATH_USAGE, UsageError } from './arguments.ts';
import { flood } from './flood.ts';
import { hotpath } from './hotpath.ts';

/** Suites by name; each takes the arguments that follow its name. */
const SUITES = {
  hotpath: { run: hotpath, usage: HOTPATH_USAGE, asks: 'how fast is the main job, and beside what' },
  flood: { run: flood, usage: FLOOD_USAGE, asks: 'what an account that floods does to the others' },
};

function usage(): string {
  const names = Object.entries(SUITES).map(([name, { asks }]) => `  ${name.padEnd(12)}${asks}`);
  return `usage: npm run bench -- SUITE [options]    (SUITE --help tells its options)\n\n${names.join('\n')}`;
}

function isSuite(name: string | undefined): name is keyof typeof SUITES {
  return name !== undefined && Object.hasOwn(SUITES, name);
}

const [name, ...argv] = process.argv.slice(2);
if (!isSuite(name)) {
  const isAsked = name === '--help' || name === '-h';
  (isAsked ? process.stdout : process.stderr).write(
    `${isAsked ? '' : `no suite ${name ?? 'was named'}\n`}${usage()}\n`,
  );
  process.exitCode = isAsked ? 0 : 2;
} else if (argv.includes('--help') || argv.includes('-h')) {
  process.stdout.write(`${SUITES[name].usage}\n`);
} else {
  try {
    await SUITES[name].run(argv);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`${error.message}\n\n${SUITES[name].usage}\n`);
    process.exitCode = 2;
  }
}
