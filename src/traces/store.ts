import type { Document } from 'mongodb';
import { type Code, TollgateError } from '../errors.ts';
import { isUuidV7 } from '../ids.ts';
import { TRACES_VIEW } from './collections.ts';
import { attemptKey, bytesOf, decodeEvent, decodeTrace, jobKeyOf, jobOf } from './documents.ts';
import type { MongoConnection } from './mongo.ts';
import type { EventBson, RequestBson, TraceBson } from './stored.ts';
import type { EventDocument, Trace, TraceStore } from './types.ts';

type TimeQuery = Parameters<TraceStore['findByTime']>[0];

/** Most events `findEvents` returns: a sender may repeat the same fault without end. */
const EVENTS_MAX = 100;

const POISON = 'TG_MESSAGE_POISON' satisfies Code;

/** The last moment that a Date can hold: a later one would match nothing. */
const DATE_MS_MAX = 8.64e15;

/** Look-up over MongoDB; no call takes longer than `traces.writeMsMax`. */
export class MongoTraceStore implements TraceStore {
  readonly #mongo: MongoConnection;

  constructor(mongo: MongoConnection) {
    this.#mongo = mongo;
  }

  async findJob(jobId: string, namespace?: string): Promise<Trace | null> {
    if (!isUuidV7(jobId)) return null;
    const one = { _id: jobKeyOf(jobId), ...(namespace === undefined ? {} : { namespace }) };
    const [trace] = await this.#look([{ $match: one }]);
    return trace ?? null;
  }

  async findBodies(jobIds: readonly string[]): Promise<ReadonlyMap<string, Buffer>> {
    const keys = jobIds.map((jobId) => jobKeyOf(jobId));
    const found = await this.#mongo.read(() =>
      this.#mongo
        .collection('requests')
        .find({ _id: { $in: keys } })
        .project<Pick<RequestBson, '_id' | 'body'>>({ _id: 1, body: 1 })
        .toArray(),
    );
    return new Map(found.map(({ _id, body }) => [jobOf(_id), bytesOf(body)]));
  }

  /** Throws TollgateError (TG_CLI_USAGE) unless `account` or `namespace` is given: without them all would be read. */
  async findByTime(query: TimeQuery): Promise<Trace[]> {
    return await this.#look(stagesByTime(await this.#namespacesOf(query), query));
  }

  /** An account is looked up by its namespaces: an index of its own would cost every job a quarter of its insert. */
  async #namespacesOf({ account, namespace }: TimeQuery): Promise<readonly string[]> {
    if (namespace !== undefined)
      return account === undefined || namespace.startsWith(`${account}/`) ? [namespace] : [];
    if (account === undefined)
      throw new TollgateError('TG_CLI_USAGE', 'traces are looked up by account or by namespace');
    return await this.#mongo.read(() =>
      this.#mongo.collection('requests').distinct('namespace', { namespace: namesOf(account) }),
    );
  }

  /** What happened to messages that named this job and became no request of it, oldest first; at most 100. */
  async findEvents(jobId: string): Promise<EventDocument[]> {
    const found = await this.#mongo.read(() =>
      this.#mongo
        .collection('events')
        .find({ job: jobKeyOf(jobId) })
        .sort({ at: 1, _id: 1 })
        .limit(EVENTS_MAX)
        .toArray(),
    );
    return found.map((event) => decodeEvent(event));
  }

  /** Those of `jobIds` whose request is not in MongoDB, for the audit. Some may still be in the spool. */
  async findMissingRequests(jobIds: readonly string[]): Promise<string[]> {
    const keys = jobIds.map((jobId) => jobKeyOf(jobId));
    const found = await this.#mongo.read(() =>
      this.#mongo
        .collection('requests')
        .find({ _id: { $in: keys } })
        .project<Pick<RequestBson, '_id'>>({ _id: 1 })
        .toArray(),
    );
    const present = new Set(found.map(({ _id }) => jobOf(_id)));
    return jobIds.filter((jobId) => !present.has(jobId));
  }

  /** Those of `attempts` that have no document in MongoDB, for the audit. Some may still be in the spool. */
  async findMissingAttempts<A extends { readonly job: string; readonly attempt: number }>(
    attempts: readonly A[],
  ): Promise<A[]> {
    const keyOf = (each: A) => attemptKey(each.job, each.attempt);
    const found = await this.#mongo.read(() =>
      this.#mongo
        .collection('attempts')
        .find({ _id: { $in: attempts.map(keyOf) } })
        .project<{ _id: string }>({ _id: 1 })
        .toArray(),
    );
    const present = new Set(found.map(({ _id }) => _id));
    return attempts.filter((each) => !present.has(keyOf(each)));
  }

  /** Those of `jobIds` that have an event which says that a message of theirs was dead-lettered unread, for the audit. */
  async findPoisoned(jobIds: readonly string[]): Promise<string[]> {
    const found = await this.#mongo.read(() =>
      this.#mongo
        .collection('events')
        .find({ job: { $in: jobIds.map((jobId) => jobKeyOf(jobId)) }, code: POISON })
        .project<Pick<EventBson, 'job'>>({ job: 1 })
        .toArray(),
    );
    const poisoned = new Set(found.map(({ job }) => (job === null ? null : jobOf(job))));
    return jobIds.filter((jobId) => poisoned.has(jobId));
  }

  async #look(stages: readonly Document[]): Promise<Trace[]> {
    const found = await this.#mongo.read((db) =>
      db
        .collection(TRACES_VIEW)
        .aggregate<TraceBson>([...stages])
        .toArray(),
    );
    return found.map((trace) => decodeTrace(trace));
  }
}

/** The names of an account's namespaces: all begin with its own. */
export function namesOf(account: string): Document {
  // The character after "/" is "0".
  return { $gte: `${account}/`, $lt: `${account}0` };
}

/**
 * What is asked of the view for a time range of these namespaces, newest first. MongoDB applies it before the view's own stages, by
 * an index, so that only the requests which are returned are joined (a test reads its plan).
 */
export function stagesByTime(
  namespaces: readonly string[],
  { fromMs, toMs, limit }: Pick<TimeQuery, 'fromMs' | 'toMs' | 'limit'>,
): Document[] {
  const at = { $gte: new Date(fromMs), $lt: new Date(Math.min(toMs, DATE_MS_MAX)) };
  return [{ $match: { namespace: { $in: namespaces }, at } }, { $sort: { at: -1 } }, { $limit: limit }];
}
