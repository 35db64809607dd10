import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../clock.ts';
import type { Programs } from './programs.ts';

const START_MS_MAX = 30_000;
const STOP_MS_MAX = 35_000;
const POLL_MS = 25;
const TAIL_LINES = 15;

/** Where the demo's processes live. */
export interface Nursery {
  /** Working folder, and where each writes its log. */
  readonly folder: string;
  /** Told every pid, so that nothing outlives the demo, even one that is killed. */
  readonly adopt: (pid: number) => void;
}

/** A part of the demo failed: its name, what it did, and the end of its log. */
export class PartError extends Error {
  override readonly name = 'PartError';

  constructor(part: string, what: string, log: string) {
    super(`${part} ${what}; the end of its log:\n${log}`);
  }
}

/** A process of the demo, with an environment of its own and its output in `<folder>/<name>.log`. */
export class Child {
  readonly name: string;
  readonly logFile: string;
  /** Rejects when it ends before it is told to. */
  readonly failed: Promise<never>;
  readonly #process: ChildProcess;
  #isStopping = false;

  /** For the functions below. */
  constructor(name: string, logFile: string, running: ChildProcess, nursery: Nursery) {
    this.name = name;
    this.logFile = logFile;
    this.#process = running;
    if (running.pid !== undefined) nursery.adopt(running.pid);
    // A demo that is told to end while this one starts may have nobody left to adopt it.
    const kill = () => running.kill('SIGKILL');
    process.once('exit', kill);
    const failed = Promise.withResolvers<never>();
    failed.promise.catch(() => undefined);
    const fail = (how: string): void => {
      if (!this.#isStopping) failed.reject(new PartError(name, `ended with ${how}`, this.#tail()));
    };
    running.once('exit', (code, signal) => {
      process.off('exit', kill);
      fail(signal ?? String(code));
    });
    running.once('error', (error) => fail(error.message));
    this.failed = failed.promise;
  }

  /** Asks it to end and waits until it has; what takes too long is killed. True if it ended well. May be called twice. */
  async stop(): Promise<boolean> {
    this.#isStopping = true;
    const running = this.#process;
    if (running.exitCode === null && running.signalCode === null) {
      const exited = once(running, 'exit');
      running.kill('SIGTERM');
      const timer = setTimeout(() => running.kill('SIGKILL'), STOP_MS_MAX);
      await exited;
      clearTimeout(timer);
    }
    return running.exitCode === 0;
  }

  /** What it answers to `wait`, as soon as that is not null. Rejects when it ends first, or takes too long. */
  async ready<T>(wait: () => T | null): Promise<T> {
    const endMs = systemClock.monotonicMs() + START_MS_MAX;
    for (;;) {
      const found = wait();
      if (found !== null) return found;
      if (systemClock.monotonicMs() > endMs)
        throw new PartError(this.name, `was not ready within ${START_MS_MAX} ms`, this.#tail());
      await Promise.race([sleep(POLL_MS), this.failed]);
    }
  }

  #tail(): string {
    return readFileSync(this.logFile, 'utf8').trimEnd().split('\n').slice(-TAIL_LINES).join('\n');
  }
}

/**
 * Starts one of the demo's own programs and hands it `input`; resolves with the process and what it answers when it is ready.
 * Passwords and keys travel by this channel and are in no argument and no environment.
 */
export async function startProgram<P extends keyof Programs>(
  program: P,
  input: Programs[P]['input'],
  nursery: Nursery,
): Promise<{ child: Child; answer: Programs[P]['answer'] }> {
  const name = program.replace('.ts', '');
  const logFile = join(nursery.folder, `${name}.log`);
  const log = openSync(logFile, 'a');
  const file = fileURLToPath(new URL(program, import.meta.url));
  const forked = fork(file, [], {
    cwd: nursery.folder,
    env: {},
    execArgv: [],
    stdio: ['ignore', log, log, 'ipc'],
  });
  closeSync(log);
  const child = new Child(name, logFile, forked, nursery);
  let answer: Programs[P]['answer'] | null = null;
  forked.once('message', (message: Programs[P]['answer']) => {
    answer = message;
  });
  forked.send(input, () => undefined);
  return { child, answer: await child.ready(() => answer) };
}

/** The other side of `startProgram`: gives the input, sends the answer, and ends on SIGTERM or when the demo is gone. */
export async function serveDemo<P extends keyof Programs>(
  start: (
    input: Programs[P]['input'],
  ) => Promise<{ answer: Programs[P]['answer']; stop: () => Promise<void> }>,
): Promise<void> {
  const told = Promise.withResolvers<void>();
  process.once('SIGTERM', () => told.resolve());
  // Ctrl-C in a terminal goes to the whole group; the demo itself decides when its parts end.
  process.on('SIGINT', () => undefined);
  process.once('disconnect', () => process.exit(1));
  const [input]: Programs[P]['input'][] = await once(process, 'message');
  if (input === undefined) return;
  const { answer, stop } = await start(input);
  process.send?.(answer);
  await told.promise;
  await stop();
  process.exit(0);
}

/** Starts `tollgate serve` with this environment and no other; resolves when it takes work, with where its HTTP answers. */
export async function startDaemon(
  environment: Readonly<Record<string, string>>,
  nursery: Nursery,
): Promise<{ child: Child; httpUrl: string }> {
  const logFile = join(nursery.folder, 'daemon.log');
  const log = openSync(logFile, 'a');
  const file = fileURLToPath(new URL('../cli/main.ts', import.meta.url));
  const spawned = spawn(process.execPath, [file, 'serve'], {
    cwd: nursery.folder,
    env: { ...environment },
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  const child = new Child('tollgate serve', logFile, spawned, nursery);
  const serving = /"http":"([^"]+)".*"msg":"serving"/;
  const httpUrl = await child.ready(() => serving.exec(readFileSync(logFile, 'utf8'))?.[1] ?? null);
  return { child, httpUrl };
}
