import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A folder for PATH whose `systemd-notify` writes what it is told into a file: Node cannot listen on a datagram socket itself. */
export class NotifyLog {
  /** To be put first on PATH. */
  readonly folder: string;
  readonly #file: string;

  constructor(folder: string) {
    this.folder = join(folder, 'bin');
    this.#file = join(folder, 'told');
    mkdirSync(this.folder);
    const script = join(this.folder, 'systemd-notify');
    // One write for each call, so that the lines of two calls are never mixed.
    writeFileSync(script, `#!/bin/sh\nprintf '%s\\n' "$*" >> '${this.#file}'\n`);
    chmodSync(script, 0o755);
  }

  /** Every call so far, oldest first. */
  get calls(): readonly string[] {
    return existsSync(this.#file) ? readFileSync(this.#file, 'utf8').trim().split('\n') : [];
  }

  /** How many calls said this. */
  count(field: string): number {
    return this.calls.filter((call) => call.includes(field)).length;
  }
}
