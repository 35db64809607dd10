import { type ChildProcess, spawn, type StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, mkdtempSync, openSync, readFileSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findOnPath } from './binaries.ts';
import { processOf } from './processes.ts';

/** What to run, and as whom. */
export interface Command {
  readonly file: string;
  readonly args: readonly string[];
  /** The whole environment, not an addition to ours. */
  readonly env: Readonly<Record<string, string>>;
  /** Working folder; inside the stack's folder, because the reaper finds orphans by it. */
  readonly cwd: string;
  /** Another user, where ours may not run this server (PostgreSQL refuses root). */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** What ends it when its owner is gone; default SIGKILL. */
  readonly lastSignal?: 'SIGQUIT' | 'SIGKILL';
}

/**
 * Owner of the stack's processes and of its folder. What it starts ends with this process, whatever ends it: the kernel
 * signals the direct children (`setpriv --pdeathsig`, where that exists), and the reaper ends the rest and removes the folder.
 */
export class Keeper {
  /** Under the temporary directory; all data and logs of the stack are in it. */
  readonly folder: string;
  readonly #reaper: ChildProcess;
  #isClosed = false;

  /** Makes the folder and starts the reaper. */
  constructor() {
    this.folder = mkdtempSync(join(realpathSync(tmpdir()), 'tollgate-'));
    // Others may pass through, because PostgreSQL runs as a user of its own under root; each server's folder is its own.
    chmodSync(this.folder, 0o711);
    const script = new URL(import.meta.url.endsWith('.ts') ? './reaper.ts' : './reaper.js', import.meta.url);
    const log = openSync(join(this.folder, 'reaper.log'), 'a');
    this.#reaper = spawn(process.execPath, [fileURLToPath(script), this.folder], {
      cwd: '/',
      detached: true,
      stdio: ['pipe', log, log],
    });
    closeSync(log);
    this.#reaper.unref();
    // A pipe keeps the event loop turning unless it is told not to; a write to a reaper that is gone is nobody's failure.
    const pipe = this.#reaper.stdin;
    if (pipe && 'unref' in pipe && typeof pipe.unref === 'function') pipe.unref();
    pipe?.on('error', () => {});
  }

  /**
   * Starts a command in a session of its own, its output appended to `logFile`; the stack's end is its end. Throws after
   * `close`: a start that was called off must not leave a straggler.
   */
  spawn(command: Command, logFile: string): ChildProcess {
    if (this.#isClosed) throw new Error('the stack has been ended');
    const lastSignal = command.lastSignal ?? 'SIGKILL';
    const log = openSync(logFile, 'a');
    const options = { cwd: command.cwd, env: command.env, detached: true } as const;
    const stdio: StdioOptions = ['ignore', log, log];
    const setpriv = findOnPath('setpriv');
    const child =
      setpriv === undefined
        ? spawn(command.file, command.args, { ...options, ...command.user, stdio })
        : spawn(setpriv, setprivArgs(command, lastSignal), { ...options, stdio });
    closeSync(log);
    child.unref();
    // Without a listener an ENOENT would end our process; the caller sees the missing pid.
    child.on('error', () => {});
    if (child.pid !== undefined) this.adopt(child.pid, lastSignal);
    return child;
  }

  /** Runs a command to its end. Throws with the end of `logFile` when it fails. */
  async run(command: Command, logFile: string): Promise<void> {
    const child = this.spawn(command, logFile);
    child.ref();
    const [code] = child.pid === undefined ? ['not started'] : await once(child, 'exit');
    if (code !== 0) throw new Error(`${command.file} ended with ${code}\n${tail(logFile)}`);
  }

  /** Ends this process and all its descendants with the stack, at the latest: for workers of a demo, or a test runner. */
  adopt(pid: number, lastSignal: NodeJS.Signals = 'SIGKILL'): void {
    const found = processOf(pid);
    if (found === undefined) return;
    this.#reaper.stdin?.write(`${JSON.stringify({ pid, startedAt: found.startedAt, lastSignal })}\n`);
  }

  /** Ends all of it and waits until it is gone. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#reaper.exitCode !== null || this.#reaper.signalCode !== null) return;
    this.#reaper.ref();
    const exited = once(this.#reaper, 'exit');
    this.#reaper.stdin?.end();
    await exited;
  }
}

/** `setpriv` becomes the command, so the pid stays; the kernel signals it when the thread that started it ends. */
function setprivArgs({ file, args, user }: Command, lastSignal: NodeJS.Signals): readonly string[] {
  const as = user === undefined ? [] : [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups'];
  return [`--pdeathsig=${lastSignal.slice('SIG'.length)}`, ...as, '--', file, ...args];
}

/** The end of a log, for a message: whoever reads it should not have to look for the file, which goes with the stack. */
export function tail(logFile: string, lines = 20): string {
  try {
    return readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  } catch {
    return '(no log)';
  }
}
