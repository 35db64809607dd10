import type { KeyObject } from 'node:crypto';
import { canonicalJson, jobDigest } from '../contracts/canonical.ts';
import { ChatInput, type ChatJob, JobMessage, WAIT_MS_MAX } from '../contracts/job.ts';
import { isOwnReplyQueue, jobKey, poolOfJob, publisherUser, vramClassOf } from '../contracts/names.ts';
import { checkerOf, parserOf } from '../contracts/parse.ts';
import { type Code, type Refusal, refusal } from '../errors.ts';
import { isUuidV7 } from '../ids.ts';
import { poolOfWanted } from '../network/fitting.ts';
import type { Directory, ModelVersion, Publisher, Wanted } from '../network/types.ts';
import type { IntakeLimits, Limited } from './intake-limits.ts';
import type { Admitted, Arrival, Known, Outcome } from './types.ts';

/** What admit needs: the directory as it stands, what may be asked of us, and the key of the body digests. */
export interface AdmitDeps {
  readonly directory: Directory;
  readonly limits: Pick<IntakeLimits, 'ofPublisher' | 'ofAccount'>;
  readonly digestKey: KeyObject;
}

/**
 * `admitted`; `out` with the outcome; `remember`: a refusal of a known account's job that the arbiter keeps under its id;
 * `unknown`: a name is not in the directory, which may only be behind: refresh it once and ask again. `unopened`: the first job of
 * its constraint: open the pools `wanted`, refresh, and ask again.
 */
export type Admission =
  | { readonly kind: 'admitted'; readonly admitted: Admitted }
  | { readonly kind: 'remember'; readonly known: Known; readonly refusal: Refusal }
  | { readonly kind: 'out'; readonly outcome: Outcome }
  | { readonly kind: 'unknown'; readonly outcome: Outcome }
  | { readonly kind: 'unopened'; readonly wanted: readonly Wanted[] };

/** A value, or the admission that ends the question. */
export type Step<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly no: Admission };

/** Version, trace, parent, flags. Source: W3C Trace Context §3.2. */
const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

const parseJob = parserOf(JobMessage);
const checkChatInput = checkerOf(ChatInput, 'input');

function no(admission: Admission): { ok: false; no: Admission } {
  return { ok: false, no: admission };
}

function refused(why: Refusal, kind: 'out' | 'unknown' = 'out'): Admission {
  return { kind, outcome: { kind: 'refused', state: 'refused', refusal: why, known: null } };
}

function out(code: Code, field: string, detail = ''): Admission {
  return refused(refusal(code, field, detail));
}

function unknown(code: Code, field: string): Admission {
  return refused(refusal(code, field), 'unknown');
}

/** Nobody can safely be answered: no sender, or a reply address that is not the sender's. */
function dead(code: Code, field: string, kind: 'out' | 'unknown' = 'out'): Admission {
  return { kind, outcome: { kind: 'dead', refusal: refusal(code, field) } };
}

/**
 * Decides whether a delivery is a job that may ask for money: first who sent it and whether it may be answered, then the
 * bytes, the envelope against the body, the account, the model, the limits. No I/O. The first fault wins and names its field.
 * What is beyond a limit of its publisher or account is told so as early as that is known.
 */
export function admit(arrival: Arrival, deps: AdmitDeps): Admission {
  const identified = identifySender(arrival, deps.directory);
  if (!identified.ok) return identified.no;
  const sender = identified.value;
  const isJudged = isToBeJudged(arrival);
  const flooding = isJudged ? beyond(arrival, deps.limits.ofPublisher(sender)) : null;
  if (flooding) return flooding;
  const read = arrival.parsed
    ? { ok: true as const, value: arrival.parsed }
    : parseBody(arrival.delivery.body);
  if (!read.ok) return read.no;
  const job = read.value;
  arrival.parsed = job;
  arrival.jobId = job.id;
  const misfit = envelopeFault(arrival, job);
  if (misfit) return misfit;

  const account = deps.directory.account(job.account);
  if (!account) return unknown('TG_ACCOUNT_UNKNOWN', 'account');
  if (!sender.accountIds.has(account.id)) return unknown('TG_ACCOUNT_NOT_ENTITLED', 'account');
  const namespaceId = account.namespaces.get(job.namespace);
  if (namespaceId === undefined) return unknown('TG_NAMESPACE_UNKNOWN', 'namespace');
  const tooMuch = isJudged ? beyond(arrival, deps.limits.ofAccount(sender, account)) : null;
  if (tooMuch) return tooMuch;
  arrival.isWithinLimits = true;

  const { delivery } = arrival;
  const { digest, inputJson } = sealOf(arrival, job, deps.digestKey);
  const identity = {
    jobId: job.id,
    accountId: account.id,
    namespaceId,
    publisherId: sender.id,
    digest,
    priority: job.priority,
    kind: 'chat' as const,
    replyTo: delivery.replyTo,
    correlationId: delivery.correlationId,
    // Anything else is not a trace's, and would be kept in PostgreSQL at any length.
    traceparent: TRACEPARENT.test(delivery.traceparent ?? '') ? delivery.traceparent : null,
  };
  const model = deps.directory.model(job.model) ?? null;
  const known = { arrival, job, account, publisher: sender, model, pool: poolOfJob(job), identity };
  if (!model) return { kind: 'remember', known, refusal: refusal('TG_MODEL_UNKNOWN', 'model') };
  const fault = modelFault(job, model);
  if (fault) return { kind: 'remember', known, refusal: fault };
  return (
    constraintFault(known, deps.directory) ?? {
      kind: 'admitted',
      admitted: firstAttempt(known, model, inputJson),
    }
  );
}

/** The first attempt of a job whose model is known; `inputJson` as in `Runnable`. */
export function firstAttempt(known: Known, model: ModelVersion, inputJson: string | null): Admitted {
  return { ...known, model, jobId: known.identity.jobId, inputJson, attempt: 1, resumed: null };
}

/** The digest, and what it was made of as far as the dispatch needs it. A job that waited has had its digest before. */
function sealOf(
  arrival: Arrival,
  job: ChatJob,
  key: KeyObject,
): { readonly digest: Buffer; readonly inputJson: string | null } {
  if (arrival.digest) return { digest: arrival.digest, inputJson: null };
  const inputJson = canonicalJson(job.input);
  arrival.digest = jobDigest(key, job, inputJson);
  return { digest: arrival.digest, inputJson };
}

/**
 * Limits are for what comes for the first time. What was let in once is not judged again when it comes back from waiting, and what
 * the broker delivers again may have its lock already.
 */
function isToBeJudged({ delivery, isWithinLimits }: Arrival): boolean {
  return !delivery.redelivered && isWithinLimits !== true;
}

/** The way out of a job beyond a limit. One that expired in its queue may have been locked before that, so it is only counted. */
function beyond({ source }: Arrival, limited: Limited | null): Admission | null {
  if (limited === null || source === 'expired') return null;
  return { kind: 'out', outcome: { kind: 'limited', ...limited } };
}

/**
 * A job that asks for what no registered node has never waits: it would only take a pool and time. The others need their pool, and
 * those of their fallbacks where there is room for them.
 */
function constraintFault(known: Known, directory: Directory): Admission | null {
  const { job, pool, arrival } = known;
  if (pool === job.model) return null;
  const wanted = wantedBy(job, job.model);
  const fault = directory.misfit(wanted);
  if (fault) return { kind: 'remember', known, refusal: fault };
  if (arrival.source === 'expired') return null;
  if (!arrival.hasAskedForPool) {
    const unopened = [wanted, ...(job.fallbacks ?? []).map((model) => wantedBy(job, model))].filter(
      (each) => !directory.pool(poolOfWanted(each)) && !directory.misfit(each),
    );
    if (unopened.length > 0) return { kind: 'unopened', wanted: unopened };
  }
  return directory.pool(pool) ? null : refused(refusal('TG_POOLS_FULL', 'constraints'));
}

function wantedBy({ constraints }: ChatJob, model: string): Wanted {
  const { region, vram_gb_min: vramGbMin } = constraints;
  return { model, region, vramGb: vramGbMin === null ? null : vramClassOf(vramGbMin) };
}

/** The publisher behind a delivery, or why nobody is answered. Source: design [20]. */
export function identifySender(
  arrival: Pick<Arrival, 'delivery' | 'source' | 'isPoison'>,
  directory: Directory,
): Step<Publisher> {
  const { delivery, source } = arrival;
  if (arrival.isPoison) return no(dead('TG_MESSAGE_POISON', 'body'));
  // A client can make its own queue dead-letter into `jobs`; what comes that way carries somebody else's user_id.
  if (source !== 'expired' && delivery.deathReason !== null) return no(dead('TG_SENDER_UNKNOWN', 'x-death'));
  if (source === 'expired' && delivery.deathReason !== 'expired') {
    return no(dead('TG_MESSAGE_INVALID', 'x-first-death-reason'));
  }
  if (delivery.userId === null) return no(dead('TG_SENDER_MISSING', 'user_id'));
  const prefix = publisherUser('');
  if (!delivery.userId.startsWith(prefix)) return no(dead('TG_SENDER_UNKNOWN', 'user_id'));
  const publisher = directory.publisher(delivery.userId.slice(prefix.length));
  if (!publisher) return no(dead('TG_SENDER_UNKNOWN', 'user_id', 'unknown'));
  const { replyTo, userId } = delivery;
  // A name with a zero byte could be a queue's, but PostgreSQL could not keep it until the answer goes out.
  if (replyTo !== null && (!isOwnReplyQueue(replyTo, userId) || replyTo.includes('\0'))) {
    return no(dead('TG_REPLY_TO_FOREIGN', 'reply_to'));
  }
  return { ok: true, value: publisher };
}

/** The job of these bytes, or why they are none. Also for the bytes of a later attempt, which were admitted once. */
export function parseBody(body: Buffer): Step<ChatJob> {
  const parsed = parseJob(body);
  if (!parsed.ok) return no(refused(parsed.fault));
  const job = parsed.value;
  if (!isUuidV7(job.id))
    return no(out('TG_JOB_ID_INVALID', 'id', 'make a new lower-case UUIDv7 for each job'));
  const unsupported = unsupportedFault(job);
  if (unsupported || job.kind !== 'chat') return no(unsupported ?? out('TG_JOB_UNSUPPORTED', 'kind'));
  const input = checkChatInput(job.input);
  if (!input.ok) return no(refused(input.fault));
  return { ok: true, value: { ...job, kind: job.kind, input: input.value } };
}

/** The envelope repeats what the broker must know; it has to say the same as the body. */
function envelopeFault(arrival: Arrival, job: ChatJob): Admission | null {
  const { delivery, source } = arrival;
  if (delivery.messageId !== job.id)
    return out('TG_JOB_KEY_MISMATCH', 'message_id', 'set message_id to the id of the job');
  // PostgreSQL keeps it until the answer goes out, and no text there may hold a zero byte.
  if (delivery.correlationId?.includes('\0')) {
    return out('TG_MESSAGE_INVALID', 'correlation_id', 'without zero bytes');
  }
  const key = source === 'expired' ? (delivery.deathRoutingKey ?? delivery.routingKey) : delivery.routingKey;
  const rightKey = jobKey(poolOfJob(job), job.priority);
  if (key !== rightKey) return out('TG_JOB_KEY_MISMATCH', 'routing_key', `publish with ${rightKey}`);
  // The broker takes the expiration away when it dead-letters a message for it.
  if (source !== 'expired' && delivery.expiration !== String(job.limits.wait_ms)) {
    return out('TG_JOB_KEY_MISMATCH', 'expiration', 'set expiration to limits.wait_ms');
  }
  if (job.limits.wait_ms > WAIT_MS_MAX[job.priority]) {
    return out('TG_JOB_LIMITS', 'limits.wait_ms', `at most ${WAIT_MS_MAX[job.priority]} for ${job.priority}`);
  }
  return null;
}

function unsupportedFault(job: JobMessage): Admission | null {
  if (job.kind !== 'chat') return out('TG_JOB_UNSUPPORTED', 'kind', 'only chat is offered');
  if (job.stream) return out('TG_JOB_UNSUPPORTED', 'stream', 'only false is offered');
  if (job.constraints.subcloud === null) return null;
  return out('TG_JOB_UNSUPPORTED', 'constraints.subcloud', 'only null is offered');
}

function modelFault(job: ChatJob, model: ModelVersion): Refusal | null {
  if (model.inputPriceMicro === null || model.outputPriceMicro === null)
    return refusal('TG_MODEL_NO_PRICE', 'model');
  const { limits } = job;
  if (limits.input_tokens_max > model.inputTokensMax) {
    return refusal('TG_JOB_LIMITS', 'limits.input_tokens_max', `at most ${model.inputTokensMax}`);
  }
  if (limits.output_tokens_max > model.outputTokensMax) {
    return refusal('TG_JOB_LIMITS', 'limits.output_tokens_max', `at most ${model.outputTokensMax}`);
  }
  if (limits.timeout_ms > model.timeoutMsMax) {
    return refusal('TG_JOB_LIMITS', 'limits.timeout_ms', `at most ${model.timeoutMsMax}`);
  }
  return null;
}
