import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { applyPatch as patchText, parsePatch } from 'diff';
import { ROOT } from '../support/source-files.ts';

/** One test: its file and its names from the outermost in. */
export interface NamedTest {
  readonly file: string;
  readonly path: readonly string[];
}

/** A broken build and the tests that must notice. */
export interface Canary {
  readonly name: string;
  /** Absolute. */
  readonly patch: string;
  readonly whatIsBroken: string;
  readonly caughtBy: readonly NamedTest[];
}

const FOLDER = fileURLToPath(new URL('.', import.meta.url));

/** Reads `*.patch` beside this file. The lines before the diff say what is broken and, one per test, who notices. */
export function readCanaries(): Canary[] {
  const files = readdirSync(FOLDER).filter((name) => name.endsWith('.patch'));
  return files.toSorted().map((name) => {
    const patch = join(FOLDER, name);
    const [head = ''] = readFileSync(patch, 'utf8').split('\ndiff --git ');
    const after = (word: string) =>
      head.split('\n').flatMap((line) => (line.startsWith(word) ? [line.slice(word.length).trim()] : []));
    const caughtBy = after('Caught by:').map((line) => {
      const [file = '', ...path] = line.split(' > ');
      return { file, path };
    });
    return {
      name: name.replace('.patch', ''),
      patch,
      whatIsBroken: after('What is broken:')[0] ?? '',
      caughtBy,
    };
  });
}

/**
 * Throws unless the patch fits the files below `folder`, then changes them. `'--check'` changes nothing. By a library, because a
 * machine that runs the tests needs no git.
 */
export function applyPatch(canary: Canary, folder: string, ...options: readonly '--check'[]): void {
  for (const file of parsePatch(readFileSync(canary.patch, 'utf8'))) {
    const path = join(folder, (file.newFileName ?? '').replace(/^b\//, ''));
    const patched = patchText(readFileSync(path, 'utf8'), file);
    if (patched === false) throw new Error(`${canary.name} does not fit ${file.newFileName}`);
    if (!options.includes('--check')) writeFileSync(path, patched);
  }
}

/** What a tree holds besides its own files. */
const NOT_OURS: ReadonlySet<string> = new Set(['node_modules', '.git', '.tap', 'dist']);

/** Copies this tree's own files into a new folder below `parent`, which shares its `node_modules`; whoever owns `parent` removes it. */
export function copyOfTree(parent: string): string {
  const copy = mkdtempSync(join(parent, 'canary-'));
  for (const name of readdirSync(ROOT)) {
    if (!NOT_OURS.has(name)) cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

/** How one test ended. */
export type Verdict = 'passed' | 'failed' | 'did not run';

/** What a TAP text says of one test: the line of its own depth that ends with its name. */
export function verdictIn(tap: string, path: readonly string[]): Verdict {
  const indent = ' '.repeat(4 * (path.length - 1));
  const name = (path.at(-1) ?? '').replaceAll('#', '\\#');
  for (const line of tap.split('\n')) {
    const found = /^( *)(not ok|ok) \d+ - (.*?)(?: # .*)?$/.exec(line);
    if (found === null || found[1] !== indent || found[3] !== name) continue;
    return found[2] === 'ok' ? 'passed' : 'failed';
  }
  return 'did not run';
}

/** A pattern for TAP_GREP that fits this name and no other. */
function exactly(name: string): string {
  return `/^${name.replaceAll(/[.*+?^${}()|[\]\\/]/g, String.raw`\$&`)}$/`;
}

/** Runs one test of the tree at `folder`, and no other. `onStart` is told the process, so that it ends with its owner. */
export async function runTest(
  test: NamedTest,
  folder: string,
  environment: Readonly<Record<string, string | undefined>>,
  onStart: (child: ChildProcess) => void,
): Promise<Verdict> {
  const child = spawn(process.execPath, [join(folder, test.file)], {
    cwd: folder,
    env: {
      ...environment,
      TAP_GREP: test.path.map(exactly).join('\n'),
      TAP_FILTER_QUIETLY: '1',
      TAP_TIMEOUT: '120',
    },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  onStart(child);
  let tap = '';
  child.stdout.on('data', (chunk) => {
    tap += String(chunk);
  });
  await once(child, 'close');
  return verdictIn(tap, test.path);
}
