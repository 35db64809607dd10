import type { Log, Metrics } from '../ops/types.ts';
import { StoreError } from '../errors.ts';
import { ENCODERS, type Section, type SectionBson, type SectionDocuments } from './documents.ts';
import type { MongoConnection } from './mongo.ts';
import type { TraceSpool } from './spool.ts';
import type { AttemptDocument, EventDocument, RequestDocument, RouteDocument, TraceSink } from './types.ts';

/**
 * Writes to MongoDB while it is up and to the spool queue while it is away; a write that failed or was not done in
 * `traces.writeMsMax` goes to the spool too. Throws RejectedDocumentsError (TG_STORE_REJECTED) for documents that MongoDB
 * will never take; the others of the call are written then.
 */
export class MongoTraceSink implements TraceSink {
  readonly #mongo: MongoConnection;
  readonly #spool: TraceSpool;
  readonly #metrics: Pick<Metrics, 'spooled'>;
  readonly #log: Log;

  constructor(log: Log, metrics: Pick<Metrics, 'spooled'>, mongo: MongoConnection, spool: TraceSpool) {
    this.#log = log;
    this.#metrics = metrics;
    this.#mongo = mongo;
    this.#spool = spool;
  }

  async writeRequests(documents: readonly RequestDocument[]): Promise<void> {
    await this.#write('requests', documents);
  }

  async writeRoutes(documents: readonly RouteDocument[]): Promise<void> {
    await this.#write('routes', documents);
  }

  async writeAttempts(documents: readonly AttemptDocument[]): Promise<void> {
    await this.#write('attempts', documents);
  }

  async writeEvents(documents: readonly EventDocument[]): Promise<void> {
    await this.#write('events', documents);
  }

  async #write<S extends Section>(section: S, documents: readonly SectionDocuments[S][]): Promise<void> {
    if (documents.length === 0) return;
    const encode = ENCODERS[section];
    const encoded: readonly SectionBson[S][] = documents.map((document) => encode(document));
    if (this.#mongo.isUp && (await this.#inserted(section, encoded))) return;
    await this.#spool.append(section, encoded);
    this.#metrics.spooled(encoded.length);
  }

  /** False where MongoDB failed and the spool is next. */
  async #inserted(section: Section, documents: readonly SectionBson[Section][]): Promise<boolean> {
    try {
      await this.#mongo.insert(section, documents);
      return true;
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this.#log.warn({ error, section, documents: documents.length }, 'traces go to the spool');
      return false;
    }
  }
}
