import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { processOf } from '../../src/stack/processes.ts';
import { until } from '../support/until.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const LAUNCH = new URL('../../scripts/launch.mjs', import.meta.url).href;

/** Path of a file that launches a program of that text, with one argument. */
function launcherOf(folder: (files: Record<string, string>) => string, program: string): string {
  const path = folder({ 'program.mjs': program, 'launcher.mjs': '' });
  folder({
    'program.mjs': program,
    'launcher.mjs': `import { launch } from '${LAUNCH}';
      process.exitCode = await launch('${relative(ROOT, join(path, 'program.mjs'))}', ['an argument']);`,
  });
  return join(path, 'launcher.mjs');
}

function start(file: string, args: readonly string[], env: Record<string, string> = {}): ChildProcess {
  const { npm_lifecycle_event: _, ...ours } = process.env;
  return spawn(file, args, { env: { ...ours, ...env }, stdio: ['ignore', 'pipe', 'inherit'] });
}

async function firstLine({ stdout }: ChildProcess): Promise<string> {
  if (stdout === null) throw new Error('no standard output');
  const [line] = await once(createInterface({ input: stdout }), 'line');
  return String(line);
}

/** Tells its pid, then waits for its end. */
const WAITS = `console.log(process.pid); setInterval(() => {}, 60_000);`;

await t.test('the program gets its arguments and Node 24, and its status is passed on', async (t) => {
  const text = `console.log(JSON.stringify([process.argv.slice(2), process.versions.node.split('.')[0]])); process.exit(7);`;
  const launcher = start(process.execPath, [launcherOf((files) => t.testdir(files), text)]);
  const exited = once(launcher, 'exit');
  t.equal(await firstLine(launcher), '[["an argument"],"24"]');
  t.same(await exited, [7, null]);
});

await t.test('a signal that comes twice at once reaches the program once', async (t) => {
  const text = `let n = 0;
    process.on('SIGINT', () => { n++; setTimeout(() => process.exit(100 + n), 300); });
    ${WAITS}`;
  const launcher = start(process.execPath, [launcherOf((files) => t.testdir(files), text)]);
  const exited = once(launcher, 'exit');
  await firstLine(launcher);
  launcher.kill('SIGINT');
  launcher.kill('SIGINT');
  t.same(await exited, [101, null]);
});

await t.test('a program that a signal ended is told as a shell tells it', async (t) => {
  const launcher = start(process.execPath, [launcherOf((files) => t.testdir(files), WAITS)]);
  const exited = once(launcher, 'exit');
  process.kill(Number(await firstLine(launcher)), 'SIGKILL');
  t.same(await exited, [137, null]);
});

await t.test('the program ends when its launcher is killed', async (t) => {
  const launcher = start(process.execPath, [launcherOf((files) => t.testdir(files), WAITS)]);
  const pid = Number(await firstLine(launcher));
  t.ok(processOf(pid));
  launcher.kill('SIGKILL');
  await until(() => processOf(pid) === undefined, 'the program to end');
});

await t.test('launcher and program end when the npm above them is killed', async (t) => {
  const file = launcherOf((files) => t.testdir(files), WAITS);
  // A shell that stays, in place of npm.
  const npm = start('sh', ['-c', `"${process.execPath}" "${file}"; true`], { npm_lifecycle_event: 'demo' });
  const pid = Number(await firstLine(npm));
  const launcher = processOf(processOf(pid)?.ppid ?? 0);
  t.ok(launcher);
  npm.kill('SIGKILL');
  await until(() => processOf(pid) === undefined, 'the program to end');
  await until(() => launcher && processOf(launcher.pid) === undefined, 'the launcher to end');
});
