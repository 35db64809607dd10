/**
 * Runs one of our programs under Node 24 and stays between it and whoever called. Plain JavaScript for Node 20.
 *
 * The program gets each signal once: it runs in a session of its own, where neither the terminal's Ctrl-C nor a signal to the
 * whole group reaches it, and this launcher passes on what it is sent. (Under npm a Ctrl-C otherwise comes twice, from the
 * terminal and from npm, and the second means "now!".) It ends with us, also when we are killed (scripts/launched.mjs sees
 * that), and with the npm that called us.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ended, node24, ROOT, toolEnvironment } from './setup.mjs';

const SAME_SIGNAL_MS = 1_000;
const LOOK_FOR_PARENT_MS = 500;

/** Runs a program of the checkout to its end. Resolves to the exit status a shell would see. */
export async function launch(program, args, environment = {}) {
  const preload = pathToFileURL(join(ROOT, 'scripts/launched.mjs')).href;
  const child = spawn(node24(), ['--import', preload, join(ROOT, program), ...args], {
    detached: true,
    env: { ...toolEnvironment(), ...environment },
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  });
  const lastAt = new Map();
  const pass = (name) => {
    const now = performance.now();
    if (now - (lastAt.get(name) ?? -SAME_SIGNAL_MS) < SAME_SIGNAL_MS) return;
    lastAt.set(name, now);
    child.kill(name);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const name of signals) process.on(name, pass);
  const parent = process.ppid;
  const watch = setInterval(() => process.ppid !== parent && pass('SIGTERM'), LOOK_FOR_PARENT_MS);
  // Only npm's end is ours too. A shell may end before its background job, as with nohup.
  if (process.env.npm_lifecycle_event === undefined) clearInterval(watch);
  try {
    const [code, signal] = await ended(child);
    return code ?? 128 + constants.signals[signal];
  } finally {
    clearInterval(watch);
    for (const name of signals) process.off(name, pass);
  }
}
