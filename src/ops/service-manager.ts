import { execFile } from 'node:child_process';
import type { Log } from './types.ts';

/**
 * What a service manager may be told; names and values as sd_notify(3) has them. A field that is absent says nothing.
 * READY: it takes work. STOPPING: it drains. WATCHDOG: it is alive. STATUS: one line for `systemctl status`.
 * EXTEND_TIMEOUT_USEC: the start or stop under way may take this many microseconds more.
 */
export type Notice = Partial<
  Record<'READY' | 'STOPPING' | 'WATCHDOG' | 'STATUS' | 'EXTEND_TIMEOUT_USEC', string>
>;

/** Whoever started this process and watches over it. */
export interface ServiceManager {
  /** It ends the process when it has heard no `WATCHDOG` for this many milliseconds; null: never. */
  readonly watchdogMs: number | null;
  /** Passes a notice on, some time soon; never throws and never waits. */
  tell(notice: Notice): void;
}

/** A child that takes longer than this is ended, in milliseconds: it waits 5 s for systemd to have read its notice. */
const NOTIFY_MS_MAX = 6_000;

/**
 * Talks to systemd by its own tool, because Node has no datagram sockets of the unix kind. The tool finds `NOTIFY_SOCKET` in the
 * environment it inherits; the unit must say `NotifyAccess=all`, because the message comes from a child. One child runs at a
 * time; what is told meanwhile goes with the next one, the newest value of each field. Source: sd_notify(3).
 */
export class Systemd implements ServiceManager {
  readonly watchdogMs: number | null;
  readonly #log: Log;
  #waiting: Notice = {};
  #sending: Promise<void> | null = null;
  #hasFailed = false;

  constructor(watchdogMs: number | null, log: Log) {
    this.watchdogMs = watchdogMs;
    this.#log = log;
  }

  tell(notice: Notice): void {
    this.#waiting = { ...this.#waiting, ...notice };
    this.#sending ??= this.#send();
  }

  /** Resolves when all that was told has been passed on, or could not be. */
  async idle(): Promise<void> {
    await this.#sending;
  }

  async #send(): Promise<void> {
    while (Object.keys(this.#waiting).length > 0) {
      const fields = Object.entries(this.#waiting).map(([name, value]) => `${name}=${value}`);
      this.#waiting = {};
      await this.#run(fields);
    }
    this.#sending = null;
  }

  #run(fields: readonly string[]): Promise<void> {
    return new Promise((resolve) => {
      const options = { timeout: NOTIFY_MS_MAX, killSignal: 'SIGKILL' } as const;
      execFile('systemd-notify', fields, options, (error) => {
        // Told once and again after each success: a missing tool must not fill the log.
        if (error && !this.#hasFailed)
          this.#log.error({ code: error.code ?? error.signal ?? null }, 'systemd was not told');
        this.#hasFailed = error !== null;
        resolve();
      });
    });
  }
}
