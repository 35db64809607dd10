import { chunksOf } from '../chunks.ts';
import type { Clock } from '../clock.ts';
import type { InvariantId } from './catalogue.ts';
import type { Findings } from './findings.ts';
import { hasEndedLock } from './job-rules.ts';
import { askAgain } from './pages.ts';
import type { JobRow } from './rows.ts';
import type { AuditBounds, AuditStores, Example } from './types.ts';

/** Missing documents that are asked for again; if there are more, the rest is judged as found. */
const SUSPECTS_MAX = 10_000;

const POISON_NOTE =
  'a message was dead-lettered unread as poison: an event of the job says so, and its bytes are in the queue dead';

/** A document that was not there. `attempt` 0: the request. */
interface Missing {
  readonly job: string;
  readonly attempt: number;
  /** Since the job moved, when it was asked for. */
  readonly ageMs: number;
}

/** What the check judges. */
export const TRACE_INVARIANTS = [
  'traces.requests',
  'traces.attempts',
] as const satisfies readonly InvariantId[];

/**
 * Looks for the documents of jobs, page by page beside the walk over jobs. What is missing is asked for again at the end; what is
 * missing then is broken, unless the spool queue holds documents or the job moved too short a time ago: then it is awaited; or an event
 * says that the message was dead-lettered unread: then its bytes are kept, and it is noted.
 */
export class TraceCheck {
  readonly #stores: Pick<AuditStores, 'traces' | 'spool'>;
  readonly #bounds: AuditBounds;
  readonly #findings: Findings;
  readonly #missing: Missing[] = [];
  readonly #beyond = { 'traces.requests': 0, 'traces.attempts': 0 };

  constructor(stores: Pick<AuditStores, 'traces' | 'spool'>, bounds: AuditBounds, findings: Findings) {
    this.#stores = stores;
    this.#bounds = bounds;
    this.#findings = findings;
  }

  /** Asks for the requests of all that had a body, and for the attempts that have ended and been answered. */
  async take(jobs: readonly JobRow[]): Promise<void> {
    const requests = jobs
      .filter((job) => job.has_body)
      .map((job) => ({ job: job.id, attempt: 0, ageMs: job.created_ago_ms }));
    // The sweep writes an attempt's document before it clears the reply, or whatever else, that it owes.
    const last = jobs
      .filter((job) => hasEndedLock(job) && !job.reply_owed)
      .map((job) => ({ job: job.id, attempt: job.attempt, ageMs: job.ended_ago_ms ?? 0 }));
    const earlier = jobs.flatMap((job) =>
      (job.given_up ?? [])
        .filter((attempt) => !job.given_up_owed?.includes(attempt))
        .map((attempt) => ({ job: job.id, attempt, ageMs: job.ended_ago_ms ?? 0 })),
    );
    const attempts = [...earlier, ...last];
    this.#findings.checked(['traces.requests'], requests.length);
    this.#findings.checked(['traces.attempts'], attempts.length);
    for (const one of await this.#absent([...requests, ...attempts])) {
      if (this.#missing.length < SUSPECTS_MAX) this.#missing.push(one);
      else this.#beyond[invariantOf(one)] += 1;
    }
  }

  /** Asks again for what was missing, and judges what still is. */
  async finish(clock: Clock): Promise<void> {
    const { recheckMs, pageRows } = this.#bounds;
    const left = await askAgain(this.#missing, recheckMs, clock, async (suspects) => {
      const still: Missing[] = [];
      for (const page of chunksOf(suspects, pageRows)) still.push(...(await this.#absent(page)));
      return still;
    });
    const beyond = TRACE_INVARIANTS.filter((id) => this.#beyond[id] > 0);
    if (left.length === 0 && beyond.length === 0) return;
    const spooled = await this.#stores.spool.depth();
    const poisoned = new Set(
      left.length === 0 ? [] : await this.#stores.traces.findPoisoned(left.map(({ job }) => job)),
    );
    for (const one of left) {
      if (poisoned.has(one.job)) this.#findings.noted(invariantOf(one), POISON_NOTE, exampleOf(one));
      else this.#judge(one, spooled);
    }
    for (const id of beyond) {
      const note = `${this.#beyond[id]} more were missing, too many to be asked for again`;
      if (spooled > 0 || left.length === 0) this.#findings.unsettled(id, 'waiting', note);
      else this.#findings.brokenToo(id, this.#beyond[id]);
    }
  }

  #judge(one: Missing, spooled: number): void {
    const id = invariantOf(one);
    const example = exampleOf(one);
    const isYoung = one.ageMs <= this.#bounds.traceGraceMs;
    if (spooled === 0 && !isYoung) return this.#findings.broken(id, example.id, example.what);
    const note =
      spooled > 0
        ? `messages that wait in the spool queue: ${spooled}`
        : `jobs of the last ${this.#bounds.traceGraceMs / 1_000} s may still be on their way`;
    this.#findings.unsettled(id, 'waiting', note, [example]);
  }

  async #absent(asked: readonly Missing[]): Promise<Missing[]> {
    const { traces } = this.#stores;
    const requests = asked.filter(({ attempt }) => attempt === 0);
    const attempts = asked.filter(({ attempt }) => attempt > 0);
    const absent = new Set(
      requests.length === 0 ? [] : await traces.findMissingRequests(requests.map(({ job }) => job)),
    );
    const absentAttempts = attempts.length === 0 ? [] : await traces.findMissingAttempts(attempts);
    return [...requests.filter(({ job }) => absent.has(job)), ...absentAttempts];
  }
}

function exampleOf({ job, attempt }: Missing): Example {
  const document = attempt === 0 ? 'request' : `document of attempt ${attempt}`;
  return { id: job, what: `its ${document} is not in MongoDB` };
}

function invariantOf({ attempt }: Missing): (typeof TRACE_INVARIANTS)[number] {
  return attempt === 0 ? 'traces.requests' : 'traces.attempts';
}
