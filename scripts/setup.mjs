/**
 * What has to be there before anything else can run: the npm packages, and Node 24, which is one of them. Plain JavaScript
 * for Node 20 with nothing but built-ins, because this runs before `npm ci` has. The servers are found or installed later,
 * by src/stack, when Node 24 runs it.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout, or the folder an installed package lies in. */
export const ROOT = fileURLToPath(new URL('..', import.meta.url));

const LOCK = join(ROOT, 'package-lock.json');
const TELL_EVERY_MS = 3_000;
/** Exit status by which flock(1) is to say that somebody else has the lock. */
const LOCKED = '75';

/**
 * Installs the npm packages unless they are there as package-lock.json wants them. Two runs at once are safe: the second
 * waits, then finds what the first installed. Resolves to the milliseconds it took, 0 when there was nothing to do. Tells on
 * standard error what it does. Ends the process with status 1 when `npm ci` fails.
 */
export async function ensureDependencies() {
  if (areDependenciesThere()) return 0;
  const startedAt = performance.now();
  const self = [process.execPath, fileURLToPath(import.meta.url)];
  const hasFlock = spawnSync('flock', ['--version']).status === 0;
  // flock(1) holds the lock for as long as its child runs, and the kernel frees it whatever happens.
  let code = await run(
    hasFlock ? ['flock', '--nonblock', '--conflict-exit-code', LOCKED, LOCK, ...self] : self,
  );
  if (hasFlock && code === Number(LOCKED)) {
    tell('another run is at it; waiting');
    code = await run(['flock', LOCK, ...self]);
  }
  if (code !== 0) process.exit(1);
  return Math.round(performance.now() - startedAt);
}

/** Path of a Node that runs TypeScript: the one among our packages, else the one that runs this, if it is new enough. */
export function node24() {
  try {
    // Resolved as a package, because an installed Tollgate may find it further up.
    const packaged = join(createRequire(import.meta.url).resolve('node/package.json'), '../bin/node');
    if (existsSync(packaged)) return packaged;
  } catch {
    // No such package; the next way.
  }
  if (Number(process.versions.node.split('.')[0]) >= 24) return process.execPath;
  throw new Error(
    'Node 24 is missing: its npm package has an install script, which seems to be switched off here',
  );
}

/** The environment for our programs: our own tools come first on PATH. */
export function toolEnvironment() {
  return { ...process.env, PATH: [join(ROOT, 'node_modules/.bin'), process.env.PATH].join(delimiter) };
}

/** Resolves to exit code and signal of a child; rejects when it cannot be started. */
export function ended(child) {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve([code, signal]));
  });
}

/** Compares what npm noted in node_modules with the lock: each package that it wants is there in that very version. */
function areDependenciesThere() {
  const wanted = packagesIn(LOCK);
  const installed = packagesIn(join(ROOT, 'node_modules/.package-lock.json'));
  if (installed === undefined) return false;
  return Object.entries(wanted ?? {}).every(
    ([path, { version, optional }]) => path === '' || optional || installed[path]?.version === version,
  );
}

function packagesIn(lockFile) {
  return existsSync(lockFile) ? JSON.parse(readFileSync(lockFile, 'utf8')).packages : undefined;
}

async function npmCi() {
  const total = Object.values(packagesIn(LOCK)).filter(({ optional }) => !optional).length;
  tell(`${total} packages, Node 24 among them`);
  const startedAt = performance.now();
  const seconds = () => Math.round((performance.now() - startedAt) / 1_000);
  const timer = setInterval(() => tell(`${unpacked()} of ${total} packages, ${seconds()} s`), TELL_EVERY_MS);
  const npm = process.env.npm_execpath?.endsWith('.js')
    ? [process.execPath, process.env.npm_execpath]
    : ['npm'];
  const code = await run([...npm, 'ci', '--no-audit', '--no-fund', '--loglevel=error']);
  clearInterval(timer);
  if (code === 0) tell(`done in ${seconds()} s`);
  else process.stderr.write(`setup: npm ci failed; run it in ${ROOT} to see more\n`);
  return code;
}

/** Runs a command of setup, all it says on standard error; resolves to its exit code. */
async function run([file, ...args]) {
  const [code] = await ended(spawn(file, args, { cwd: ROOT, stdio: ['ignore', 2, 2] }));
  return code ?? 1;
}

function tell(text) {
  process.stderr.write(`setup: npm ci, ${text}\n`);
}

function list(folder) {
  return existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
}

/** How many package folders hold something. */
function unpacked() {
  const folders = list(join(ROOT, 'node_modules')).flatMap((path) =>
    /[/\\]@[^/\\]*$/.test(path) ? list(path) : [path],
  );
  return folders.filter((folder) => existsSync(join(folder, 'package.json'))).length;
}

// As a program of its own, under the lock: somebody else may have installed everything while this one waited.
if (process.argv[1] === fileURLToPath(import.meta.url) && !areDependenciesThere())
  process.exitCode = await npmCi();
