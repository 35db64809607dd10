import type { JobMessage } from '../../src/contracts/job.ts';
import type { RequestDocument } from '../../src/traces/types.ts';
import { PUBLISHER } from './names.ts';

/** The trace of a job that was dispatched, as the product's sink takes it, with the `routing` of its first attempt. */
export function traceDocument(
  job: JobMessage,
  body: Buffer,
  routing: NonNullable<RequestDocument['routing']>,
): RequestDocument {
  return {
    job: job.id,
    account: job.account,
    namespace: job.namespace,
    publisher: PUBLISHER,
    model: job.model,
    modelVersion: 1,
    kind: job.kind,
    priority: job.priority,
    receivedAtMs: routing.receivedAtMs,
    body,
    routing,
    traceparent: null,
  };
}
