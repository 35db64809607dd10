import { createHash } from 'node:crypto';
import type { LockRequest, SettleRequest } from '../../src/ledger/types.ts';
import type { JobMessage } from '../../src/contracts/job.ts';
import type { Directory } from '../../src/network/types.ts';
import { PUBLISHER, REPLY_QUEUE } from './names.ts';

/** Where a job is to run. */
interface Seat {
  readonly node: string;
  readonly session: number;
}

/**
 * What the ledger is asked for one of our jobs, as short as one can write it: nothing is validated, and the digest is a plain
 * one of the bytes. Throws where the directory does not know who pays.
 */
export function lockRequestOf(
  directory: Pick<Directory, 'account' | 'model' | 'publisher'>,
  job: JobMessage,
  body: Buffer,
  seat: Seat,
): LockRequest {
  const account = directory.account(job.account);
  const model = directory.model(job.model);
  const publisher = directory.publisher(PUBLISHER);
  const namespaceId = account?.namespaces.get(job.namespace);
  if (!account || !model || !publisher || namespaceId === undefined)
    throw new Error(`the directory does not know ${job.account}`);
  return {
    jobId: job.id,
    accountId: account.id,
    namespaceId,
    publisherId: publisher.id,
    digest: createHash('sha256').update(body).digest(),
    priority: job.priority,
    kind: 'chat',
    replyTo: REPLY_QUEUE,
    correlationId: job.id,
    traceparent: null,
    modelVersionId: model.id,
    inputTokensMax: job.limits.input_tokens_max,
    outputTokensMax: job.limits.output_tokens_max,
    timeoutMs: job.limits.timeout_ms,
    attemptsMax: job.limits.attempts_max,
    ...seat,
  };
}

/** The settlement of a lock by a result of so many tokens. */
export function settleRequestOf(
  { jobId, node, session }: LockRequest,
  tokens: Pick<SettleRequest, 'inputTokens' | 'outputTokens'>,
): SettleRequest {
  const digest = createHash('sha256').update(jobId).digest();
  return { jobId, attempt: 1, node, session, status: 'completed', digest, ...tokens };
}
