import { writeFileSync } from 'node:fs';
import { type Failure, usageFault } from './failure.ts';

/** `--json` (true), `--json FILE`, or neither. */
export type JsonOption = string | true | undefined;

/** Amounts are below 2^53 by the ledger's own bound, so a number loses nothing. */
function plain(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value;
}

/** Columns of left-aligned text, two spaces apart; the first row is the head. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/**
 * Where a command speaks: its result on standard output as text, or as JSON with `--json`; with `--json FILE` the JSON goes to
 * the file and the text stays. Progress and faults go to standard error, so that output can be piped.
 */
export class Output {
  readonly #json: JsonOption;

  constructor(json: JsonOption) {
    this.#json = json;
  }

  /** The one result of the command: `data` for programs, `text` for people. Throws if the file cannot be written. */
  result(data: unknown, text: string): void {
    if (this.#json !== undefined) this.#writeJson(data);
    if (this.#json !== true && text !== '') process.stdout.write(`${text}\n`);
  }

  /** A line about work under way. */
  progress(text: string): void {
    process.stderr.write(`${text}\n`);
  }

  /** `code: message`, then what to do. */
  failure({ code, message, advice }: Failure): void {
    const lines = message.includes('\n') ? `\n  ${message.replaceAll('\n', '\n  ')}` : ` ${message}`;
    process.stderr.write(`${code}:${lines}\n${advice === null ? '' : `  → ${advice}\n`}`);
    try {
      if (this.#json !== undefined) this.#writeJson({ error: { code, message, advice } });
    } catch {
      // The file cannot be written: that was said just now, or the first fault matters more.
    }
  }

  #writeJson(data: unknown): void {
    const text = `${JSON.stringify(data, plain, 2)}\n`;
    if (typeof this.#json !== 'string') {
      process.stdout.write(text);
      return;
    }
    try {
      writeFileSync(this.#json, text);
    } catch {
      usageFault('--json', `cannot write ${this.#json}`);
    }
  }
}
