import { Binary, BSON, type Document } from 'mongodb';
import type { Section } from './documents.ts';

/** MongoDB takes no larger document. Source: MongoDB limits and thresholds. */
const DOCUMENT_BYTES_MAX = 16_777_216;
/** A command is one document, too, with room for 16 KiB more; what it says besides its documents is small. */
const COMMAND_BYTES_MAX = 16_000_000;
/** No character of JavaScript has more bytes in UTF-8, counted by code units. */
const UTF8_BYTES_MAX = 3;
/** Room for a type, a length, an ending and any value that is not a string, a binary or a container. */
const VALUE_BYTES_MAX = 32;

/** An insert of some of the documents, the first of which is at place `from`. */
export interface InsertCommand {
  readonly from: number;
  readonly documents: readonly Document[];
  /** They have no more bytes than this; they may well have fewer. */
  readonly bytesMax: number;
  readonly command: Document;
}

/**
 * The inserts of `documents`, unordered and durable on a majority: as few commands as their size allows. A document that may be beyond
 * the limit has a command of its own.
 */
export function* commandsOf(section: Section, documents: readonly Document[]): Generator<InsertCommand> {
  let from = 0;
  let bytes = 0;
  for (let place = 0; place < documents.length; place++) {
    const own = boundOf(documents[place] ?? {});
    if (place > from && bytes + own > COMMAND_BYTES_MAX) {
      yield insertOf(section, from, documents.slice(from, place), bytes);
      from = place;
      bytes = 0;
    }
    bytes += own;
  }
  if (from < documents.length) yield insertOf(section, from, documents.slice(from), bytes);
}

function insertOf(
  section: Section,
  from: number,
  documents: readonly Document[],
  bytesMax: number,
): InsertCommand {
  const command = { insert: section, ordered: false, writeConcern: { w: 'majority', j: true }, documents };
  return { from, documents, bytesMax, command };
}

/** True for a single document that MongoDB will not take. The driver would send it, and its buffer ends before such a one does. */
export function isTooLarge({ documents, bytesMax }: InsertCommand): boolean {
  return (
    bytesMax > COMMAND_BYTES_MAX &&
    documents.some((document) => BSON.calculateObjectSize(document) > DOCUMENT_BYTES_MAX)
  );
}

/** One that contains itself has no bound: it goes alone, and is refused when it is written. */
function boundOf(document: Document): number {
  try {
    return bytesAtMost(document);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return Number.POSITIVE_INFINITY;
  }
}

/** No fewer bytes than the value has in BSON; exact sizes would cost as much as writing it. */
function bytesAtMost(value: unknown): number {
  if (typeof value === 'string') return value.length * UTF8_BYTES_MAX + VALUE_BYTES_MAX;
  if (!isContainer(value)) return VALUE_BYTES_MAX;
  if (value instanceof Binary) return value.position + VALUE_BYTES_MAX;
  let bytes = VALUE_BYTES_MAX;
  // V8 throws away what it compiles of a `for … in` here, a dozen times a second: documents differ in shape.
  for (const key of Object.keys(value)) bytes += key.length * UTF8_BYTES_MAX + bytesAtMost(value[key]);
  return bytes;
}

function isContainer(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !(value instanceof Date);
}
