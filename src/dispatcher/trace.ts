import { TollgateError } from '../errors.ts';
import type { Log } from '../ops/types.ts';
import type {
  AttemptDocument,
  EventDocument,
  RequestDocument,
  RouteDocument,
  TraceSink,
} from '../traces/types.ts';

/** What a batch leaves behind in MongoDB. */
export interface Documents {
  readonly requests: readonly RequestDocument[];
  readonly routes: readonly RouteDocument[];
  readonly attempts: readonly AttemptDocument[];
  readonly events: readonly EventDocument[];
}

/** Nothing yet; to be spread and filled. */
export const NO_DOCUMENTS: Documents = { requests: [], routes: [], attempts: [], events: [] };

/**
 * Writes all sections, durably. A document that MongoDB refuses for good (no job of ours can make one) stops nobody: the
 * rest is written, it is logged, and the audit names the job whose trace is missing. Throws StoreError when neither MongoDB nor
 * the spool takes them.
 */
export async function writeDocuments(documents: Documents, traces: TraceSink, log: Log): Promise<void> {
  const writes = [
    traces.writeRequests(documents.requests),
    traces.writeRoutes(documents.routes),
    traces.writeAttempts(documents.attempts),
    traces.writeEvents(documents.events),
  ];
  for (const written of await Promise.allSettled(writes)) {
    if (written.status === 'fulfilled') continue;
    const error: unknown = written.reason;
    if (!(error instanceof TollgateError && error.code === 'TG_STORE_REJECTED')) throw error;
    log.error({ code: error.code, reason: error.message }, 'a trace was refused for good');
  }
}
