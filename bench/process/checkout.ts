import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Teardown } from '../../test/support/servers.ts';
import { UsageError } from '../arguments.ts';
import { BenchError } from '../bench-error.ts';

/** The checkout that this bench runs from. */
export const OWN_ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** `npm ci` may take this long. */
const INSTALL_MS_MAX = 300_000;

/** The full commit that `rev` names in the repository at `root`. Throws UsageError when there is none. */
export function commitOf(rev: string, root = OWN_ROOT): string {
  const { status, stdout, stderr, error } = git(root, [
    'rev-parse',
    '--verify',
    '--quiet',
    '--end-of-options',
    `${rev}^{commit}`,
  ]);
  if (error) throw new BenchError(`git cannot be run: ${error.message}`);
  if (stderr.includes('not a git repository'))
    throw new BenchError('this is not a git repository, so there is no other commit to compare with');
  if (status !== 0)
    throw new UsageError(`${JSON.stringify(rev)} names no commit of this repository (git rev-parse)`);
  return stdout.trim();
}

/**
 * Checks `commit` out beside the working tree, in a temporary folder, with the packages that its lock file asks for: ours where
 * the lock files are the same, else its own by `npm ci`. Returns the folder. It is removed when `t` ends, and at the latest
 * when this process exits. Throws BenchError with what git or npm said.
 */
export function checkOut(t: Teardown, commit: string, root = OWN_ROOT): string {
  const parent = mkdtempSync(join(tmpdir(), 'tollgate-bench-compare-'));
  const folder = join(parent, 'checkout');
  const remove = (): void => {
    process.off('exit', remove);
    git(root, ['worktree', 'remove', '--force', folder]);
    rmSync(parent, { recursive: true, force: true });
    git(root, ['worktree', 'prune']);
  };
  process.once('exit', remove);
  t.after(remove);
  const { status, stderr } = git(root, ['worktree', 'add', '--detach', '--quiet', folder, commit]);
  if (status !== 0) throw new BenchError(`git worktree add: ${stderr.trim()}`);
  givePackages(folder, root);
  return folder;
}

function givePackages(folder: string, root: string): void {
  if (lockOf(folder) === lockOf(root)) {
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    return;
  }
  const npm = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], {
    cwd: folder,
    encoding: 'utf8',
    timeout: INSTALL_MS_MAX,
  });
  if (npm.status !== 0)
    throw new BenchError(`its packages could not be installed by npm ci:\n${npm.stderr.trim()}`);
}

function lockOf(folder: string): string {
  try {
    return readFileSync(join(folder, 'package-lock.json'), 'utf8');
  } catch {
    return '';
  }
}

function git(cwd: string, args: readonly string[]) {
  return spawnSync('git', args, { cwd, encoding: 'utf8' });
}
