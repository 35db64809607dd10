import { Binary, type Document } from 'mongodb';
import type { Section } from './documents.ts';

/** A command is one document, which may have 16 MiB; what it says besides its documents is small. */
const COMMAND_BYTES_MAX = 16_000_000;
/** No character of JavaScript has more bytes in UTF-8, counted by code units. */
const UTF8_BYTES_MAX = 3;
/** Room for a type, a length, an ending and any value that is not a string, a binary or a container. */
const VALUE_BYTES_MAX = 32;

/** An insert of some of the documents, the first of which is at place `from`. */
export interface InsertCommand {
  readonly from: number;
  readonly command: Document;
}

/**
 * The inserts of `documents`, unordered and durable on a majority: as few commands as their size allows. A document beyond the limit
 * has a command of its own, and MongoDB refuses it.
 */
export function* commandsOf(section: Section, documents: readonly Document[]): Generator<InsertCommand> {
  let from = 0;
  let bytes = 0;
  for (const [place, document] of documents.entries()) {
    const own = bytesAtMost(document);
    if (place > from && bytes + own > COMMAND_BYTES_MAX) {
      yield { from, command: insertOf(section, documents.slice(from, place)) };
      from = place;
      bytes = 0;
    }
    bytes += own;
  }
  if (from < documents.length) yield { from, command: insertOf(section, documents.slice(from)) };
}

function insertOf(section: Section, documents: readonly Document[]): Document {
  return { insert: section, ordered: false, writeConcern: { w: 'majority', j: true }, documents };
}

/** No fewer bytes than the value has in BSON; exact sizes would cost as much as writing it. */
function bytesAtMost(value: unknown): number {
  if (typeof value === 'string') return value.length * UTF8_BYTES_MAX + VALUE_BYTES_MAX;
  if (!isContainer(value)) return VALUE_BYTES_MAX;
  if (value instanceof Binary) return value.position + VALUE_BYTES_MAX;
  let bytes = VALUE_BYTES_MAX;
  for (const key of Object.keys(value)) bytes += key.length * UTF8_BYTES_MAX + bytesAtMost(value[key]);
  return bytes;
}

function isContainer(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !(value instanceof Date);
}
