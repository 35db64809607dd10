import { TollgateError } from '../errors.ts';

/** One request of a recorded load. */
export interface TraceArrival {
  /** Milliseconds after the first one, with fractions. */
  readonly atMs: number;
  readonly contextTokens: number;
  readonly generatedTokens: number;
}

const COLUMNS = ['TIMESTAMP', 'ContextTokens', 'GeneratedTokens'] as const;

/** Most requests of one replay; more would have to be read while it runs. */
export const ARRIVALS_MAX = 1_000_000;

/** What the demo's models take. */
const TOKENS_MAX = { ContextTokens: 1_000_000, GeneratedTokens: 100_000 } as const;

const TIMESTAMP = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)?$/;

/** Throws TG_CLI_USAGE; lines and columns count from 1, as editors do. */
function fault(line: number, column: number | null, what: string): never {
  const where = column === null ? '' : `, column ${column} (${COLUMNS[column - 1]})`;
  throw new TollgateError('TG_CLI_USAGE', `--trace: line ${line}${where}: ${what}`);
}

/**
 * Reads a load in the form of the Azure LLM inference traces: a head, then `TIMESTAMP,ContextTokens,GeneratedTokens` per line;
 * line ends LF or CR LF, times in UTC with up to 9 digits after the second, not before the line above. `lines` come without
 * their LF. Stops after `arrivalsMax`. Throws TG_CLI_USAGE naming line and column. Source: Azure/AzurePublicDataset.
 */
export async function readTrace(
  lines: AsyncIterable<string> | Iterable<string>,
  arrivalsMax = ARRIVALS_MAX,
): Promise<TraceArrival[]> {
  const arrivals: TraceArrival[] = [];
  let number = 0;
  let first: Moment | null = null;
  for await (const line of lines) {
    number += 1;
    const cells = line.replace(/\r$/, '').split(',');
    if (number === 1) checkHead(cells);
    else if (line.trim() !== '') {
      if (arrivals.length === arrivalsMax) break;
      const moment = momentOf(cells, number);
      first ??= moment;
      const atMs = elapsedMs(first, moment);
      if (atMs < (arrivals.at(-1)?.atMs ?? 0)) fault(number, 1, 'is before the line above');
      arrivals.push({
        atMs,
        contextTokens: tokens(cells, 2, number),
        generatedTokens: tokens(cells, 3, number),
      });
    }
  }
  if (number === 0) fault(1, null, 'the file is empty');
  if (arrivals.length === 0) fault(number + 1, null, 'there is no request below the head');
  return arrivals;
}

function checkHead(cells: readonly string[]): void {
  const head = COLUMNS.join(',');
  // Some editors put a byte order mark in front.
  if (cells.join(',').replace(/^\u{feff}/u, '') !== head) fault(1, null, `expects the head ${head}`);
}

/** Whole seconds since 1970, and the rest in nanoseconds: a float of both would lose the last digits. */
interface Moment {
  readonly seconds: number;
  readonly nanoseconds: number;
}

function momentOf(cells: readonly string[], line: number): Moment {
  if (cells.length !== COLUMNS.length)
    fault(line, null, `has ${cells.length} columns and not ${COLUMNS.length}`);
  const [, date = '', time = '', fraction = ''] = TIMESTAMP.exec(cells[0] ?? '') ?? [];
  const ms = Date.parse(`${date}T${time}Z`);
  if (Number.isNaN(ms))
    fault(line, 1, `expects a time like 2023-11-16 18:17:03.9799600, got ${shown(cells[0])}`);
  return { seconds: ms / 1_000, nanoseconds: Number(fraction.padEnd(9, '0')) };
}

function elapsedMs(from: Moment, to: Moment): number {
  return ((to.seconds - from.seconds) * 1e9 + to.nanoseconds - from.nanoseconds) / 1e6;
}

function tokens(cells: readonly string[], column: 2 | 3, line: number): number {
  const text = cells[column - 1] ?? '';
  const max = TOKENS_MAX[column === 2 ? 'ContextTokens' : 'GeneratedTokens'];
  const count = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(count <= max)) fault(line, column, `expects a whole number from 0 to ${max}, got ${shown(text)}`);
  return count;
}

/** A value of the file in an error: short, and visible whatever it is. */
function shown(text = ''): string {
  return JSON.stringify(text.length <= 40 ? text : `${text.slice(0, 40)}…`);
}
