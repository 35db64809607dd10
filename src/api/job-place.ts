import { constraintOf, jobQueue, modelOfPool, poolName, type Priority } from '../contracts/names.ts';
import type { Code } from '../errors.ts';
import type { JobRecord } from '../ledger/job-records.ts';
import { type ExplainDeps, type Explanation, explain, type Question } from './explain.ts';

/** Where a job is, as far as this coordinator and PostgreSQL know. `depth`: messages that wait in the queue, null: not known. */
export type Place =
  | { readonly kind: 'ended'; readonly state: string; readonly code: Code | null }
  | { readonly kind: 'running'; readonly attempt: number; readonly node: string }
  /** The attempt before was given up; its lock stands. */
  | {
      readonly kind: 'between_attempts';
      readonly attempt: number;
      readonly queue: string;
      readonly depth: number | null;
    }
  /** Taken from its queue and not answered: on its way through the stages, or held for a slot. */
  | { readonly kind: 'held'; readonly queue: string; readonly forMs: number }
  /** It was in our hands and went back to its queue, because nobody had a slot. */
  | { readonly kind: 'queued'; readonly queue: string; readonly agoMs: number; readonly depth: number | null }
  | { readonly kind: 'unknown'; readonly queue: string | null; readonly depth: number | null };

/** `explanation` is null where nothing keeps the job waiting, or nobody knows what it asks for. */
export interface JobExplanation {
  readonly job: string;
  readonly place: Place;
  readonly explanation: Explanation | null;
}

/** A job that passed through this coordinator without an answer so far. */
export interface SeenJob {
  readonly pool: string;
  readonly priority: Priority;
  /** Since it came (`isHere`) or since it went back to its queue, in milliseconds. */
  readonly forMs: number;
  readonly isHere: boolean;
}

/** What a job's record says of its place. */
export type PlacedRecord = Pick<
  JobRecord,
  'jobId' | 'state' | 'code' | 'attempt' | 'node' | 'model' | 'poolSuffix' | 'priority'
>;

/** What the job's place is found with. */
export interface PlaceDeps extends ExplainDeps {
  readonly records: { find(jobId: string): Promise<PlacedRecord | null> };
  /** Nodes that had an attempt of the job before. */
  readonly triedNodes: (jobId: string) => Promise<readonly string[]>;
  readonly seen: (jobId: string) => SeenJob | null;
  /** Messages that wait in a queue; null where the broker does not say. */
  readonly queueDepth: (queue: string) => Promise<number | null>;
}

/**
 * Says where a job is and, if it waits, why. A job that waits in RabbitMQ has no row, and RabbitMQ finds no message by its id: of
 * one that this coordinator has not had in its hands, `hint` says what it asks for. Throws StoreError.
 */
export async function explainJob(
  jobId: string,
  hint: { readonly question: Question; readonly priority: Priority } | null,
  deps: PlaceDeps,
): Promise<JobExplanation> {
  const record = await deps.records.find(jobId);
  if (record !== null) return fromRecord(record, deps);
  const seen = deps.seen(jobId);
  if (seen !== null) {
    const queue = jobQueue(seen.pool, seen.priority);
    const place: Place = seen.isHere
      ? { kind: 'held', queue, forMs: seen.forMs }
      : { kind: 'queued', queue, agoMs: seen.forMs, depth: await deps.queueDepth(queue) };
    return { job: jobId, place, explanation: await explain(questionOf(seen.pool), deps) };
  }
  if (hint === null)
    return { job: jobId, place: { kind: 'unknown', queue: null, depth: null }, explanation: null };
  const { question, priority } = hint;
  const queue = jobQueue(poolName(question.model, question), priority);
  const place = { kind: 'unknown', queue, depth: await deps.queueDepth(queue) } as const;
  return { job: jobId, place, explanation: await explain(question, deps) };
}

async function fromRecord(record: PlacedRecord, deps: PlaceDeps): Promise<JobExplanation> {
  const { jobId: job, state, code, attempt, node, model, poolSuffix, priority } = record;
  if (state !== 'locked') return { job, place: { kind: 'ended', state, code }, explanation: null };
  if (node !== null) return { job, place: { kind: 'running', attempt, node }, explanation: null };
  const pool = `${model ?? ''}${poolSuffix ?? ''}`;
  const queue = jobQueue(pool, priority === 'batch' ? 'batch' : 'interactive');
  const place = { kind: 'between_attempts', attempt, queue, depth: await deps.queueDepth(queue) } as const;
  const tried = await deps.triedNodes(job);
  return { job, place, explanation: await explain({ ...questionOf(pool), tried }, deps) };
}

function questionOf(pool: string): Question {
  return { model: modelOfPool(pool), ...constraintOf(pool) };
}
