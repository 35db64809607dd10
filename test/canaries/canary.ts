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

/** What a test is called in a report. */
export function titleOf({ file, path }: NamedTest): string {
  return [file, ...path].join(' > ');
}

/** A file that a canary changes: absolute path, its text now and its text then. */
interface Change {
  readonly path: string;
  readonly before: string;
  readonly after: string;
}

/**
 * What a canary makes of the files below `folder`; changes nothing. Throws unless its patch fits them. By a library, because a
 * machine that runs the tests needs no git.
 */
export function changesOf(canary: Canary, folder: string): Change[] {
  return parsePatch(readFileSync(canary.patch, 'utf8')).map((file) => {
    const path = join(folder, (file.newFileName ?? '').replace(/^b\//, ''));
    const before = readFileSync(path, 'utf8');
    const after = patchText(before, file);
    if (after === false) throw new Error(`${canary.name} does not fit ${file.newFileName}`);
    return { path, before, after };
  });
}

/** Breaks the tree at `folder`; answers how to mend it. Throws as `changesOf`. */
export function breakTree(canary: Canary, folder: string): () => void {
  const changes = changesOf(canary, folder);
  for (const { path, after } of changes) writeFileSync(path, after);
  return () => {
    for (const { path, before } of changes) writeFileSync(path, before);
  };
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

/** How one test ended; `why`: what failed first, null if nothing did. */
export interface Ending {
  readonly verdict: 'passed' | 'failed' | 'did not run';
  readonly why: string | null;
}

/** What a TAP text says of one test: the line of its own depth that ends with its name. */
export function endingIn(tap: string, path: readonly string[]): Ending {
  const indent = ' '.repeat(4 * (path.length - 1));
  const name = (path.at(-1) ?? '').replaceAll('#', '\\#');
  let why: string | null = null;
  for (const line of tap.split('\n')) {
    const found = /^( *)(not ok|ok) \d+ - (.*?)(?: # .*)?$/.exec(line);
    if (found === null) continue;
    // An assertion comes before the test it belongs to.
    if (found[2] === 'not ok') why ??= found[3] ?? '';
    if (found[1] !== indent || found[3] !== name) continue;
    return found[2] === 'ok' ? { verdict: 'passed', why: null } : { verdict: 'failed', why };
  }
  return { verdict: 'did not run', why };
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
): Promise<Ending> {
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
  return endingIn(tap, test.path);
}
