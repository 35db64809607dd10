import { CliProcess } from './cli-process.ts';
import type { Teardown } from './servers.ts';

/** `tollgate serve` as a process of its own, which can be killed at any moment. */
export class ChildDaemon {
  readonly httpUrl: string;
  readonly #process: CliProcess;

  private constructor(process: CliProcess, httpUrl: string) {
    this.#process = process;
    this.httpUrl = httpUrl;
  }

  /** Starts it with these settings and resolves when it serves. */
  static async start(t: Teardown, flags: Readonly<Record<string, string>>): Promise<ChildDaemon> {
    const settings = Object.entries({ ...flags, 'log.level': 'debug' });
    const args = ['serve', ...settings.flatMap(([path, value]) => ['--set', `${path}=${value}`])];
    const child = CliProcess.start(t, args, {});
    const said = await child.says(/"http":"([^"]+)".*"msg":"serving"/);
    return new ChildDaemon(child, said[1] ?? '');
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** All it has logged, at level debug. */
  get log(): string {
    return this.#process.stdout + this.#process.stderr;
  }

  /** SIGKILL: nothing is finished, nothing handed back. */
  async kill(): Promise<void> {
    this.#process.signal('SIGKILL');
    await this.#process.ended;
  }

  /** SIGTERM; resolves to the exit status once it has drained. */
  stop(): Promise<number | null> {
    this.#process.signal('SIGTERM');
    return this.#process.ended;
  }
}
