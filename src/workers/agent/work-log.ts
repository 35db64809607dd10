import { createWriteStream, type WriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import type { Log } from '../../ops/types.ts';

/**
 * One line of a worker's own log: a dispatch whose model was asked. Times are wall-clock milliseconds since 1970.
 * Evidence from outside the coordinator: `tollgate audit` compares `received_at_ms` with the commit time of the job's lock.
 */
export interface WorkLogLine {
  readonly received_at_ms: number;
  readonly started_at_ms: number;
  readonly finished_at_ms: number;
  readonly job: string;
  readonly attempt: number;
  readonly node: string;
  readonly session: number;
}

/** Appends one JSON line per executed dispatch to a file, never content. A disk that fails is logged and stops nobody. */
export class WorkLog {
  readonly #stream: WriteStream;
  readonly #log: Log;

  constructor(path: string, log: Log) {
    this.#log = log;
    this.#stream = createWriteStream(path, { flags: 'a', mode: 0o600 });
    this.#stream.on('error', (error) => log.error({ error }, 'the worker log cannot be written'));
  }

  append(line: WorkLogLine): void {
    if (this.#stream.writable) this.#stream.write(`${JSON.stringify(line)}\n`);
  }

  /** Resolves when all lines are with the operating system. */
  async close(): Promise<void> {
    this.#stream.end();
    await finished(this.#stream).catch((error: unknown) =>
      this.#log.error({ error }, 'the worker log was not closed'),
    );
  }
}
