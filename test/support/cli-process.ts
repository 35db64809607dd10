import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Teardown } from './servers.ts';
import { until } from './until.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

/** A command that runs until it is told to end, such as `tollgate serve`. */
export class CliProcess {
  /** All it has written so far. */
  stdout = '';
  stderr = '';
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.stdout?.on('data', (chunk) => {
      this.stdout += String(chunk);
    });
    child.stderr?.on('data', (chunk) => {
      this.stderr += String(chunk);
    });
    this.#ended = new Promise((resolve) => {
      child.once('close', resolve);
    });
  }

  /** Starts `tollgate <args>` with exactly this environment; killed when `t` ends, if it lives still. */
  static start(t: Teardown, args: readonly string[], env: Readonly<Record<string, string>>): CliProcess {
    const child = spawn(process.execPath, [MAIN, ...args], {
      env: { PATH: process.env['PATH'], ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    t.after(() => child.kill('SIGKILL'));
    return new CliProcess(child);
  }

  /** Waits for a line on standard output or error and returns what `pattern` found. */
  async says(pattern: RegExp): Promise<RegExpExecArray> {
    return until(
      () => {
        const said = pattern.exec(this.stdout) ?? pattern.exec(this.stderr);
        if (said === null && this.#child.exitCode !== null)
          throw new Error(`it ended with ${this.#child.exitCode}: ${this.stderr}`);
        return said;
      },
      `the process to say ${String(pattern)}`,
      { timeoutMs: 60_000 },
    );
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('it did not start');
    return this.#child.pid;
  }

  /** Sends a signal; the exit status comes from `ended`. */
  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Its exit status, null if a signal ended it. */
  get ended(): Promise<number | null> {
    return this.#ended;
  }
}
