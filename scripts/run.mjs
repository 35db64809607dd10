#!/usr/bin/env node
/**
 * The verbs of package.json: demo, test, check, bench, chaos, simulate, canaries, fuzz, build. Works in a fresh clone under Node 20:
 * it installs the npm packages first, then hands over to Node 24. What follows the verb goes to the program that does the work.
 */
import { spawn } from 'node:child_process';
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { launch } from './launch.mjs';
import { ended, ensureDependencies, ROOT, toolEnvironment } from './setup.mjs';

/** Verb → what does it: takes the arguments, resolves to the exit status. */
const VERBS = {
  demo: (args) => launch('src/demo/main.ts', args, timings),
  test: (args) => launch('test/support/run-tap.ts', args, timings),
  bench: (args) => launch('bench/main.ts', args, timings),
  chaos: (args) => launch('chaos/main.ts', args, timings),
  simulate: (args) => launch('simulation/main.ts', args, timings),
  canaries: (args) => launch('test/canaries/run.ts', args, timings),
  fuzz: (args) => launch('test/fuzz/main.ts', args, timings),
  check: async (args) => {
    const failed = await firstFailure([
      ['biome', 'ci', ...(process.stdout.isTTY ? [] : ['--colors=off'])],
      ['oxlint', '--type-aware', '--deny-warnings'],
      ['tsc', '--noEmit'],
    ]);
    // .ci/run calls `npm test` itself, as a person would.
    return failed !== 0 || args.includes('--static') ? failed : await VERBS.test(args);
  },
  build: async () => {
    rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
    const failed = await firstFailure([['tsc', '-p', 'tsconfig.build.json']]);
    // tsc leaves out what it doesn't compile: Lua scripts, texts.
    if (failed === 0)
      cpSync(join(ROOT, 'src'), join(ROOT, 'dist'), { recursive: true, filter: isNotCompiled });
    return failed;
  },
};

function isNotCompiled(path) {
  return !path.endsWith('.ts');
}

/** Runs tools from node_modules one after the other; resolves to the status of the first that fails, or 0. */
async function firstFailure(commands) {
  for (const command of commands) {
    process.stderr.write(`check: ${command.join(' ')}\n`);
    const [tool, ...args] = command;
    const [code] = await ended(spawn(tool, args, { cwd: ROOT, env: toolEnvironment(), stdio: 'inherit' }));
    if (code !== 0) return code ?? 1;
  }
  return 0;
}

const [name, ...rest] = process.argv.slice(2);
const verb = Object.hasOwn(VERBS, name ?? '') ? VERBS[name] : undefined;
if (verb === undefined) {
  process.stderr.write(`usage: node scripts/run.mjs ${Object.keys(VERBS).join('|')} [arguments]\n`);
  process.exit(2);
}
const timings = { TOLLGATE_SETUP_TIMINGS: JSON.stringify({ downloadMs: await ensureDependencies() }) };
process.exitCode = await verb(rest);
