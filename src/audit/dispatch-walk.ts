import type { WorkLogLine } from '../workers/agent/work-log.ts';
import type { InvariantId } from './catalogue.ts';
import type { Findings } from './findings.ts';
import type { AttemptRow } from './rows.ts';
import type { AuditOptions, AuditStores } from './types.ts';
import { type LoggedRun, readWorkLogs } from './work-logs.ts';

/** What the workers' own logs prove. */
export const DISPATCH_INVARIANTS: readonly InvariantId[] = [
  'dispatch.locked',
  'dispatch.lock_first',
  'dispatch.once',
];

/** A run that a log tells of. */
interface Run extends LoggedRun {
  readonly run: WorkLogLine;
}

/**
 * Holds every run that the workers' logs tell of against the ledger. The logs are written by the workers, who know nothing of
 * PostgreSQL, and the commit times by PostgreSQL, which knows nothing of dispatches. Memory: about 100 bytes per run.
 */
export async function walkWorkLogs(
  stores: AuditStores,
  options: AuditOptions,
  findings: Findings,
): Promise<void> {
  if (options.workerLogs.length === 0) {
    for (const id of DISPATCH_INVARIANTS)
      findings.unsettled(id, 'not_checked', "no worker's log was given: --worker-log FILE");
    return;
  }
  const judge = new RunJudge(stores, options.clockSkewMs, findings);
  let page: Run[] = [];
  for await (const { where, run } of readWorkLogs(options.workerLogs)) {
    if (run === null)
      findings.unsettled('dispatch.locked', 'not_provable', 'a line could not be read', [unread(where)]);
    else page.push({ where, run });
    if (page.length < options.bounds.pageRows) continue;
    await judge.take(page);
    page = [];
  }
  if (page.length > 0) await judge.take(page);
}

function unread(where: string) {
  return { id: where, what: 'this is no line of a worker log' };
}

class RunJudge {
  readonly #stores: AuditStores;
  readonly #clockSkewMs: number;
  readonly #findings: Findings;
  readonly #seen = new Set<string>();

  constructor(stores: AuditStores, clockSkewMs: number, findings: Findings) {
    this.#stores = stores;
    this.#clockSkewMs = clockSkewMs;
    this.#findings = findings;
  }

  async take(runs: readonly Run[]): Promise<void> {
    this.#findings.checked(DISPATCH_INVARIANTS, runs.length);
    const ids = [...new Set(runs.map(({ run }) => run.job))];
    const rows = await this.#stores.database.query<AttemptRow>('audit_attempts', [ids]);
    const byId = new Map(rows.map((row) => [row.id, row]));
    for (const one of runs) {
      const row = byId.get(one.run.job);
      this.#judgeOnce(one);
      if (row?.has_lock !== true) {
        this.#findings.broken('dispatch.locked', one.run.job, `${told(one)} and there is no credit lock`);
        continue;
      }
      const elsewhere = placeFault(one.run, row);
      if (elsewhere !== null)
        this.#findings.broken('dispatch.locked', one.run.job, `${told(one)} and ${elsewhere}`);
      this.#judgeOrder(one, row);
    }
  }

  #judgeOnce(one: Run): void {
    const key = `${one.run.job}.${one.run.attempt}`;
    if (this.#seen.has(key)) this.#findings.broken('dispatch.once', one.run.job, `${told(one)}, again`);
    this.#seen.add(key);
  }

  /** Both times are whole milliseconds of a wall clock; PostgreSQL takes its own just before the commit is flushed. */
  #judgeOrder(one: Run, { lock_committed_at_ms: committedMs, is_tracked: isTracked }: AttemptRow): void {
    const findings = this.#findings;
    if (!isTracked) {
      const note = 'track_commit_timestamp is off: this server does not keep when a transaction committed';
      return findings.unsettled('dispatch.lock_first', 'not_provable', note);
    }
    if (committedMs === null) {
      const note = 'the server has forgotten when these locks were committed (their rows are frozen)';
      const what = 'the time of its commit is no longer kept';
      return findings.unsettled('dispatch.lock_first', 'not_provable', note, [{ id: one.run.job, what }]);
    }
    const earlyMs = Math.floor(committedMs) - one.run.received_at_ms;
    if (earlyMs <= 0) return;
    const what = `${told(one)}, received ${earlyMs} ms before its lock was committed`;
    if (earlyMs > this.#clockSkewMs) return findings.broken('dispatch.lock_first', one.run.job, what);
    const note = `the clocks may be ${this.#clockSkewMs} ms apart, which is more than what is between some commits and dispatches`;
    findings.unsettled('dispatch.lock_first', 'not_provable', note, [{ id: one.run.job, what }]);
  }
}

/** What PostgreSQL says otherwise of where the attempt ran, or null. An attempt that was given up has a row of its own. */
function placeFault(run: WorkLogLine, row: AttemptRow): string | null {
  if (row.attempt === null) return null;
  if (run.attempt < row.attempt) {
    const isKnown = row.given_up.includes(`${run.attempt} ${run.node} ${run.session}`);
    return isKnown ? null : 'PostgreSQL knows of no such attempt';
  }
  if (run.attempt > row.attempt) return `PostgreSQL is at attempt ${row.attempt}`;
  if (run.node === row.node && run.session === Number(row.session)) return null;
  return `PostgreSQL gave it to ${row.node}#${row.session}`;
}

function told({ where, run }: Run): string {
  return `attempt ${run.attempt} ran on ${run.node}#${run.session} (${where})`;
}
