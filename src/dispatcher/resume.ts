import { type Refusal, StoreError } from '../errors.ts';
import type { Attempts, RetryFacts } from '../ledger/types.ts';
import type { Directory, ModelVersion } from '../network/types.ts';
import type { Log } from '../ops/types.ts';
import type { TraceStore } from '../traces/types.ts';
import type { DueRetry } from './admission.ts';
import { parseBody } from './admit.ts';
import { answered } from './answered.ts';
import { askAgain } from './ask-again.ts';
import type { Arrival, Exit, Resumed, Split } from './types.ts';

interface ResumeDeps {
  readonly attempts: Pick<Attempts, 'readRetries'>;
  readonly traceStore: Pick<TraceStore, 'findBodies'>;
  readonly directory: Pick<Directory, 'modelVersion' | 'refresh'>;
  readonly log: Log;
}

/** After so many looks, 10 s in all, the message is let go: the sweep sets a new alarm for as long as the job has time. */
const ASKS_MAX = 14;

/**
 * Reads what a later attempt needs: its terms from the row, its input from the trace. One whose job has ended or moved on needs
 * nothing. One whose input is not in MongoDB waits, and uses no try for it: it may still be in the spool queue, or with another
 * coordinator that gathers it.
 * Source: design [23], [24].
 */
export async function resume(due: readonly DueRetry[], deps: ResumeDeps): Promise<Split<Resumed>> {
  const on = due.flatMap(({ arrival }) =>
    arrival.resumed === null ? [] : [{ ...arrival.resumed, arrival }],
  );
  const fresh = due.filter(({ arrival }) => arrival.resumed === null);
  if (fresh.length === 0) return { on, off: [] };
  const off: Exit[] = [];
  const wanted: { readonly arrival: Arrival; readonly facts: RetryFacts }[] = [];
  const rows = await deps.attempts.readRetries(fresh.map(({ message }) => message.job));
  for (const [{ arrival, message }, facts] of answered(fresh, rows)) {
    const isDue = facts?.state === 'locked' && facts.attempt === message.attempt;
    if (isDue && facts.remainingMs > 0) wanted.push({ arrival, facts });
    else off.push({ arrival, outcome: { kind: 'done' } });
  }
  const bodies = await readBodies(
    wanted.map(({ facts }) => facts.jobId),
    deps,
  );
  if (wanted.some(({ facts }) => deps.directory.modelVersion(facts.modelVersionId) === undefined))
    await deps.directory.refresh();
  for (const { arrival, facts } of wanted) {
    const body = bodies.get(facts.jobId);
    const model = deps.directory.modelVersion(facts.modelVersionId);
    if (body === undefined || model === undefined) off.push(askAgain(arrival, ASKS_MAX, 'done'));
    else {
      const resumed = resumedOf(arrival, facts, body, model);
      if ('code' in resumed) {
        deps.log.error(
          { job: facts.jobId, code: resumed.code },
          'the input of a later attempt cannot be read',
        );
        off.push({ arrival, outcome: { kind: 'dead', refusal: resumed } });
      } else on.push(resumed);
    }
  }
  return { on, off };
}

function resumedOf(
  arrival: Arrival,
  facts: RetryFacts,
  body: Buffer,
  model: ModelVersion,
): Resumed | Refusal {
  const read = parseBody(body);
  if (!read.ok)
    return { code: 'TG_MESSAGE_INVALID', field: 'body', message: 'the traced request is not a job' };
  const { jobId, attempt } = facts;
  const resumed = { arrival, jobId, attempt, job: read.value, inputJson: null, model, resumed: facts };
  arrival.resumed = resumed;
  return resumed;
}

/** None while MongoDB is away: the attempts wait for it. */
async function readBodies(jobIds: readonly string[], { traceStore, log }: ResumeDeps) {
  if (jobIds.length === 0) return new Map<string, Buffer>();
  try {
    return await traceStore.findBodies(jobIds);
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    log.warn({ attempts: jobIds.length, reason: error.message }, 'later attempts wait for their input');
    return new Map<string, Buffer>();
  }
}
