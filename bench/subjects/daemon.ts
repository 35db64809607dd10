import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { BenchError } from '../bench-error.ts';
import { builtProgram } from '../process/built.ts';
import { OWN_ROOT } from '../process/checkout.ts';
import { serviceNodeFlags } from '../process/node-flags.ts';
import type { Owner } from '../process/owner.ts';
import { connectProfiler, type Profiler } from '../measure/profiler.ts';
import { serveEnvironment, type World } from '../world/world.ts';

const START_MS_MAX = 30_000;
const STOP_MS_MAX = 40_000;

/** A real coordinator of a world, `tollgate serve`, in a process of its own and with the default configuration. */
export class Daemon {
  readonly pid: number;
  /** Null unless a profile was asked for. */
  readonly profiler: Profiler | null;
  readonly #process: ChildProcess;
  #isStopping = false;

  /** One that ends by itself ends the bench. */
  constructor(process: ChildProcess, pid: number, profiler: Profiler | null, owner: Owner) {
    this.#process = process;
    this.pid = pid;
    this.profiler = profiler;
    process.once('exit', (code, signal) => {
      if (!this.#isStopping) owner.fail(new BenchError(`tollgate serve ended with ${signal ?? code}`));
    });
  }

  /** Drains and ends it, as systemd would. Kills it when that takes too long. */
  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#isStopping = true;
    this.profiler?.close();
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
 * Starts a coordinator and resolves when it serves. `profile`: folder for CPU profiles of it; null: none are taken, and it
 * listens to no inspector.
 */
export async function startDaemon(
  world: World,
  options: {
    readonly profile: string | null;
    readonly owner: Owner;
    readonly onWarning: OnWarning;
    readonly environment?: Readonly<Record<string, string>>;
    /** Checkout that it is started from; default: this one. */
    readonly root?: string;
  },
): Promise<Daemon> {
  const { profile, owner, onWarning, environment = {}, root = OWN_ROOT } = options;
  const flags = serviceNodeFlags(root);
  if (profile !== null) flags.push('--inspect=127.0.0.1:0');
  const child = spawn(process.execPath, [...flags, await builtProgram(root), 'serve'], {
    cwd: root,
    env: { PATH: process.env['PATH'] ?? '', ...serveEnvironment(world), ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (child.pid === undefined) throw new Error('tollgate serve could not be started');
  owner.adopt(child.pid);
  const serving = Promise.withResolvers<void>();
  const inspector = Promise.withResolvers<string>();
  const timer = setTimeout(
    () => serving.reject(new BenchError('tollgate serve did not start in time')),
    START_MS_MAX,
  );
  child.once('exit', (code, signal) =>
    serving.reject(new BenchError(`tollgate serve ended with ${signal ?? code}`)),
  );
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (line.includes('"msg":"serving"')) serving.resolve();
    else if (!/"level":"(info|debug)"/.test(line)) onWarning(line);
  });
  createInterface({ input: child.stderr }).on('line', (line) => {
    const url = /^Debugger listening on (ws:\S+)/.exec(line)?.[1];
    if (url === undefined) process.stderr.write(`tollgate serve: ${line}\n`);
    else inspector.resolve(url);
  });
  try {
    await serving.promise;
  } finally {
    clearTimeout(timer);
  }
  const profiler = profile === null ? null : await connectProfiler(await inspector.promise, profile);
  return new Daemon(child, child.pid, profiler, owner);
}
