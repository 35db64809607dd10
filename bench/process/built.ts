import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BenchError } from '../bench-error.ts';

const run = promisify(execFile);
const BUILD_MS_MAX = 120_000;
const builds = new Map<string, Promise<string>>();

/**
 * Path of the program that operators run: `dist/cli/main.js` of the checkout at `root`, built by its own `npm run build` when it is
 * first asked for. From the sources Node would keep in memory, besides, what strips their types. Throws BenchError with what the
 * build said.
 */
export function builtProgram(root: string): Promise<string> {
  let build = builds.get(root);
  if (build === undefined) {
    build = buildAt(root);
    builds.set(root, build);
  }
  return build;
}

async function buildAt(root: string): Promise<string> {
  try {
    await run(process.execPath, [join(root, 'scripts/run.mjs'), 'build'], {
      cwd: root,
      timeout: BUILD_MS_MAX,
    });
  } catch (error) {
    const said =
      error instanceof Error && 'stdout' in error && 'stderr' in error ? [error.stderr, error.stdout] : [];
    const text = said.map(String).join('\n').trim() || String(error);
    throw new BenchError(`the checkout at ${root} could not be built:\n${text}`, { cause: error });
  }
  return join(root, 'dist/cli/main.js');
}
