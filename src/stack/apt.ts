import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { systemClock } from '../clock.ts';
import { findOnPath } from './binaries.ts';

const run = promisify(execFile);

/** How this process may install packages; null: not at all. */
export type Privilege = 'root' | 'sudo' | null;

/** Milliseconds spent on getting the programs; both 0 where everything was there. */
export interface SetupTimings {
  /** Over the network: npm packages, package lists, packages, mongod. */
  readonly downloadMs: number;
  /** Unpacking and configuring what was downloaded. */
  readonly installMs: number;
}

/** One run of the setup: whom it tells, what it has spent, and what calls it off. */
export interface Setup {
  readonly onProgress: (line: string) => void;
  readonly signal: AbortSignal | undefined;
  /** Added up as it goes. */
  readonly spent: { -readonly [K in keyof SetupTimings]: number };
}

/** root, or password-less sudo, on a system with apt. */
export async function privilegeHere(): Promise<Privilege> {
  if (findOnPath('apt-get') === undefined || !isDebianLike()) return null;
  if (process.getuid?.() === 0) return 'root';
  const sudo = await run('sudo', ['-n', 'true'], { timeout: 5_000 }).catch(() => undefined);
  return sudo === undefined ? null : 'sudo';
}

/** Debian, Ubuntu and what is made of them. */
export function isDebianLike(): boolean {
  try {
    return /^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(readFileSync('/etc/os-release', 'utf8'));
  } catch {
    return false;
  }
}

const STEPS: Readonly<Record<string, string>> = {
  wait: 'another run is installing; waiting for it',
  update: 'reading the package lists',
  download: 'downloading packages',
  install: 'installing packages (no service is started, no database cluster is made)',
};

/** Runs scripts/apt-install.sh and tells its steps; says why where it fails. Once begun it is not called off. */
export async function aptInstall(
  packages: readonly string[],
  privilege: Privilege,
  { onProgress, signal, spent }: Setup,
): Promise<string | undefined> {
  const names = packages.map((wish) => wish.split(':')[0]).join(' ');
  if (privilege === null) return `${names}: neither root nor sudo without a password, or no apt here`;
  const script = fileURLToPath(new URL('../../scripts/apt-install.sh', import.meta.url));
  if (!existsSync(script)) return `${names}: only a source checkout installs packages`;
  signal?.throwIfAborted();
  onProgress(`setup: apt-get install ${names}`);
  const [file, ...args] = [...(privilege === 'sudo' ? ['sudo', '-n'] : []), 'sh', script, ...packages];
  const child = spawn(file ?? 'sh', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const onAbort = () => onProgress('setup: letting apt finish first, so that nothing stays half installed');
  signal?.addEventListener('abort', onAbort, { once: true });
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log = (log + text).slice(-4_000);
  });
  let step = '';
  let told = -1;
  let sinceMs = systemClock.monotonicMs();
  const account = () => {
    const nowMs = systemClock.monotonicMs();
    spent[step === 'install' ? 'installMs' : 'downloadMs'] += nowMs - sinceMs;
    sinceMs = nowMs;
  };
  createInterface({ input: child.stdout }).on('line', (line) => {
    const next = /^step (\w+)/.exec(line)?.[1];
    const percent = /^(?:dl|pm)status:[^:]*:(\d+)/.exec(line)?.[1];
    if (next !== undefined) {
      account();
      step = next;
      told = -1;
      onProgress(`setup: ${STEPS[next] ?? next}`);
    } else if (percent !== undefined && Number(percent) >= told + 20) {
      told = Number(percent);
      onProgress(`setup: ${STEPS[step] ?? step}, ${percent} %`);
    }
  });
  const [code] = await once(child, 'close');
  signal?.removeEventListener('abort', onAbort);
  account();
  return code === 0 ? undefined : `apt-get install ${names} failed:\n${log.trim()}`;
}
