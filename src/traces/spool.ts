import { BSON, type Document } from 'mongodb';
import type { OutMessage, PublishOutcome, Publisher } from '../broker/types.ts';
import type { Config } from '../config-schema.ts';
import { QUEUE } from '../contracts/names.ts';
import { StoreError } from '../errors.ts';
import { newUuidV7 } from '../ids.ts';
import { SECTIONS, type Section } from './documents.ts';

/*
 * A spool message:
 *
 *   0      3   4        5
 *   ┌──────┬───┬────────┬────────────┬────────────┬┄
 *   │ TGS  │ 1 │section │ document   │ document   │    documents: BSON, each begins with its own length (int32)
 *   └──────┴───┴────────┴────────────┴────────────┴┄   section: place in SECTIONS
 */
const MAGIC = Buffer.from('TGS\x01', 'latin1');
const HEADER_BYTES = MAGIC.length + 1;
/** An empty BSON document: its length and the closing zero. */
const DOCUMENT_BYTES_MIN = 5;

/** What one spool message holds, ready to be inserted as it is. */
export interface Spooled {
  readonly section: Section;
  readonly documents: readonly Document[];
}

/** Keeps the exact types that were written: a double that happens to be whole stays a double. */
const EXACT = { promoteValues: false, promoteBuffers: false, promoteLongs: false } as const;

/** Where documents wait in RabbitMQ while MongoDB is away. */
export class TraceSpool {
  readonly #publisher: Publisher;
  readonly #messageBytesMax: number;

  /** The message size is `config.spoolMessageBytesMax`. */
  constructor(config: Config['traces'], publisher: Publisher) {
    this.#publisher = publisher;
    this.#messageBytesMax = config.spoolMessageBytesMax;
  }

  /**
   * Resolves once the queue has confirmed every document. A repeat is harmless: the drain writes duplicates once. Throws
   * StoreError with TG_SPOOL_FULL in its message unless all were taken; some of them may be.
   */
  async append(section: Section, documents: readonly Document[]): Promise<void> {
    const bodies = encodeSpooled(section, documents, this.#messageBytesMax);
    const outcomes = await this.#publisher.publishBatch(bodies.map(spoolMessage));
    if (outcomes.every((outcome) => outcome === 'confirmed')) return;
    throw new StoreError('rabbitmq', `TG_SPOOL_FULL: ${QUEUE.spool} took not all (${tally(outcomes)})`);
  }
}

function spoolMessage(body: Buffer): OutMessage {
  return { exchange: '', routingKey: QUEUE.spool, body, messageId: newUuidV7(), mandatory: true };
}

/** `3 confirmed, 1 nacked`. */
function tally(outcomes: readonly PublishOutcome[]): string {
  const counts = new Map<PublishOutcome, number>();
  for (const outcome of outcomes) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  return [...counts].map(([outcome, count]) => `${count} ${outcome}`).join(', ');
}

/** The bodies of as few messages as hold `documents`, each of at most `bytesMax` or of one document. */
export function encodeSpooled(section: Section, documents: readonly Document[], bytesMax: number): Buffer[] {
  const header = Buffer.concat([MAGIC, Buffer.of(SECTIONS.indexOf(section))]);
  const bodies: Buffer[] = [];
  let parts: Uint8Array[] = [header];
  let length = HEADER_BYTES;
  for (const document of documents) {
    const bytes = BSON.serialize(document);
    if (parts.length > 1 && length + bytes.length > bytesMax) {
      bodies.push(Buffer.concat(parts));
      parts = [header];
      length = HEADER_BYTES;
    }
    parts.push(bytes);
    length += bytes.length;
  }
  if (parts.length > 1) bodies.push(Buffer.concat(parts));
  return bodies;
}

/** What a spool message holds, or null if this is none, is cut short, or holds a document without an `_id` of its own. */
export function decodeSpooled(body: Buffer): Spooled | null {
  if (body.length <= HEADER_BYTES || !body.subarray(0, MAGIC.length).equals(MAGIC)) return null;
  const section = SECTIONS[body[MAGIC.length] ?? -1];
  if (section === undefined) return null;
  const documents: Document[] = [];
  let at = HEADER_BYTES;
  while (at < body.length) {
    const length = body.length - at < DOCUMENT_BYTES_MIN ? 0 : body.readInt32LE(at);
    if (length < DOCUMENT_BYTES_MIN || at + length > body.length) return null;
    const document = decodeDocument(body.subarray(at, at + length));
    // Without an _id the driver would make one, and a replay a second document.
    if (document?.['_id'] === undefined) return null;
    documents.push(document);
    at += length;
  }
  return { section, documents };
}

function decodeDocument(bytes: Buffer): Document | null {
  try {
    return BSON.deserialize(bytes, EXACT);
  } catch {
    return null;
  }
}
