import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Owner } from './owner.ts';
import { serveEnvironment, type World } from './world.ts';

const PROGRAM = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url));
const START_MS_MAX = 30_000;
const STOP_MS_MAX = 40_000;

/** A real coordinator of a world, `tollgate serve`, in a process of its own and with the default configuration. */
export class Daemon {
  readonly pid: number;
  readonly #process: ChildProcess;
  #isStopping = false;

  /** One that ends by itself ends the bench. */
  constructor(process: ChildProcess, pid: number, owner: Owner) {
    this.#process = process;
    this.pid = pid;
    process.once('exit', (code, signal) => {
      if (!this.#isStopping && !owner.isEnding)
        throw new Error(`tollgate serve ended with ${signal ?? code}`);
    });
  }

  /** Drains and ends it, as systemd would. Kills it when that takes too long. */
  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#isStopping = true;
    const exited = once(this.#process, 'exit');
    this.#process.kill('SIGTERM');
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), STOP_MS_MAX);
    await exited;
    clearTimeout(timer);
  }
}

/** What the daemon said with level `warn` or above while it ran: a batch handed back makes a run worthless. */
export type OnWarning = (line: string) => void;

/**
 * Starts a coordinator and resolves when it serves. `profile`: folder for a CPU profile, written when it stops; null: none.
 */
export async function startDaemon(
  world: World,
  profile: string | null,
  owner: Owner,
  onWarning: OnWarning,
): Promise<Daemon> {
  const profiling = profile === null ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`];
  const child = spawn(process.execPath, [...profiling, PROGRAM, 'serve'], {
    env: { PATH: process.env['PATH'] ?? '', ...serveEnvironment(world) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (child.pid === undefined) throw new Error('tollgate serve could not be started');
  owner.adopt(child.pid);
  const serving = Promise.withResolvers<void>();
  const timer = setTimeout(
    () => serving.reject(new Error('tollgate serve did not start in time')),
    START_MS_MAX,
  );
  child.once('exit', (code, signal) =>
    serving.reject(new Error(`tollgate serve ended with ${signal ?? code}`)),
  );
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (line.includes('"msg":"serving"')) serving.resolve();
    else if (!/"level":"(info|debug)"/.test(line)) onWarning(line);
  });
  try {
    await serving.promise;
  } finally {
    clearTimeout(timer);
  }
  return new Daemon(child, child.pid, owner);
}
