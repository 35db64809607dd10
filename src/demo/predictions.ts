import { createWriteStream, type WriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { finished } from 'node:stream/promises';
import type { Expected } from './flaws.ts';
import type { ScenarioMessage } from './scenario.ts';

/** One line of the generator's log: a message, written before it is published, and the end it must come to. */
export interface Prediction
  extends Pick<ScenarioMessage, 'seq' | 'kind' | 'flaw' | 'account' | 'publisher'>,
    Expected {
  /** The job's id; the messages that repeat it carry the same. */
  readonly job: string;
  /** Wall-clock milliseconds since 1970. */
  readonly at_ms: number;
}

/** The generator's own log, JSON lines: what it sends and what must come of it, independent of what does. */
export class PredictionLog {
  readonly path: string;
  readonly #stream: WriteStream;

  constructor(path: string) {
    this.path = path;
    this.#stream = createWriteStream(path, { flags: 'wx', mode: 0o600 });
  }

  /** Resolves when the lines are with the operating system: only then their messages may be published. */
  async append(predictions: readonly Prediction[]): Promise<void> {
    const lines = predictions.map((one) => `${JSON.stringify(one)}\n`).join('');
    await new Promise<void>((resolve, reject) =>
      this.#stream.write(lines, (error) => (error ? reject(error) : resolve())),
    );
  }

  /** Ends the log and reads back all of it. */
  async readBack(): Promise<Prediction[]> {
    this.#stream.end();
    await finished(this.#stream);
    const text = await readFile(this.path, 'utf8');
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line): Prediction => JSON.parse(line));
  }
}
