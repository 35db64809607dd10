import type { TestLedger } from '../support/ledger.ts';
import { heldMicro, type LedgerModel } from './model.ts';

interface AccountRow {
  readonly id: number;
  readonly credited: string;
  readonly captured: string;
  readonly held: string;
  readonly computed: string;
  readonly counted: string;
}

interface JobRow {
  readonly id: string;
  readonly row: string;
}

/** Counters, and what they are when they are added up from the transfers alone. */
const ACCOUNTS = `
  select a.id, a.credited_micro::text as credited, a.captured_micro::text as captured, a.held_micro::text as held,
         concat_ws(' ', a.credited_micro, a.captured_micro, a.held_micro) as counted,
         concat_ws(' ', coalesce(sum(x.amount_micro) filter (where x.kind = 'top_up' and x.credit_account_id = a.id), 0),
           coalesce(sum(x.amount_micro) filter (where x.kind = 'capture' and x.debit_account_id = a.id), 0),
           coalesce(sum(x.amount_micro) filter (where x.kind = 'lock' and x.debit_account_id = a.id and not exists (
             select from credits.transfers r where r.id = x.id and r.phase = 1)), 0)) as computed
    from credits.accounts a left join credits.transfers x on a.id in (x.debit_account_id, x.credit_account_id)
   where a.id = any ($1) group by a.id`;

/** Transfers of these accounts that no ledger may hold, with the invariant that they break. */
const WRONG_TRANSFERS = `
  select x.id::text, concat_ws(' ',
           case when (x.debit_account_id, x.credit_account_id) is distinct from
                     (case when x.kind = 'top_up' then (1, x.credit_account_id) else (x.debit_account_id, 2) end)
                  or x.debit_account_id = x.credit_account_id then 'L1 balanced' end,
           case when x.phase = 1 and l.id is null then 'L5 resolves no lock' end,
           case when x.phase = 1 and x.amount_micro > l.amount_micro then 'L6 more than the lock' end,
           case when x.phase = 1 and x.debit_account_id <> l.debit_account_id then 'L1 another account' end,
           case when x.kind <> 'top_up' and j.id is null then 'L9 no job' end) as fault
    from credits.transfers x
    left join credits.transfers l on l.id = x.id and l.phase = 0 and l.kind = 'lock'
    left join jobs.jobs j on j.id = x.id
   where x.debit_account_id = any ($1) or x.credit_account_id = any ($1)`;

/** Each job of these accounts in one line: its row, then the kinds and amounts of its transfers in the order of their phase. */
const JOBS = `
  select j.id::text, concat_ws(' ', j.account_id, j.state, coalesce(j.code, '-'), j.attempt, coalesce(j.node, '-'), coalesce(j.session, 0),
           j.locked_micro, j.charged_micro, coalesce(j.reply_to, '-'), j.reply_owed, coalesce(encode(j.digest, 'hex'), '-'),
           j.uncounted, coalesce(j.run_version_id, 0),
           (select string_agg(concat_ws(':', a.attempt, a.node, a.session, a.outcome, a.code, a.is_counted, a.is_owed, encode(a.digest, 'hex')), ' '
                     order by a.attempt) from jobs.attempts a where a.job_id = j.id),
           (select string_agg(concat_ws(':', x.kind, x.amount_micro, encode(x.digest, 'hex')), ' ' order by x.phase)
              from credits.transfers x where x.id = j.id)) as row
    from jobs.jobs j where j.account_id = any ($1)`;

/**
 * Compares PostgreSQL with the model, and with itself: L1 debits = credits, L2 nothing overdrawn, L3 counters = recomputation, L5 at
 * most one resolution, L6 charge within the lock, L9 every job in one state with the transfers of that state; L12 is the model's
 * (`conflict`, `different`). L4 has no counterpart: accounts here carry no version. Throws an Error that says what differs.
 */
export async function checkInvariants(ledger: TestLedger, model: LedgerModel): Promise<void> {
  const ids = [...model.credited.keys()];
  const accounts = await ledger.sql<AccountRow>(ACCOUNTS, [ids]);
  for (const { id, credited, captured, held, counted, computed } of accounts) {
    same(counted, computed, `L3 counters of account ${id}, as its transfers add up`);
    const expected = `${model.credited.get(id)} ${model.captured.get(id) ?? 0n} ${heldMicro(model, id)}`;
    same(counted, expected, `counters of account ${id}`);
    if (BigInt(captured) + BigInt(held) > BigInt(credited)) throw new Error(`L2: account ${id} is overdrawn`);
  }
  const wrong = await ledger.sql<{ id: string; fault: string }>(
    `select * from (${WRONG_TRANSFERS}) as x where fault <> ''`,
    [ids],
  );
  same(JSON.stringify(wrong), '[]', 'transfers that no ledger may hold');
  const jobs = await ledger.sql<JobRow>(JOBS, [ids]);
  const rows = new Map(jobs.map(({ id, row }) => [id, row]));
  for (const [id, line] of expectedJobs(model)) same(rows.get(id), line, `L9 job ${id}`);
  same(rows.size, model.jobs.size, 'L9 number of jobs');
}

function* expectedJobs({ jobs }: LedgerModel): Generator<[string, string]> {
  for (const [id, job] of jobs) {
    const { accountId, state, code, attempt, node, session, lockedMicro, chargedMicro, replyTo } = job;
    const fence = [attempt, node ?? '-', session ?? 0];
    const row = [
      accountId,
      state,
      code ?? '-',
      ...fence,
      lockedMicro,
      chargedMicro,
      replyTo ?? '-',
      letter(job.isReplyOwed),
    ];
    const more = [job.digest ?? '-', job.uncounted, job.runVersionId ?? 0];
    const before = [...job.givenUp].map(([n, one]) =>
      parts(
        n,
        one.node,
        one.session,
        one.outcome,
        one.code,
        letter(one.isCounted),
        letter(one.isOwed),
        one.digest,
      ),
    );
    const lock = attempt > 0 ? [`lock:${lockedMicro}`] : [];
    const end = job.resolution === null ? [] : [parts(job.resolution, chargedMicro, job.resultDigest)];
    yield [id, [...row, ...more, ...before, ...lock, ...end].join(' ')];
  }
}

function letter(isTrue: boolean): string {
  return isTrue ? 't' : 'f';
}

function parts(...values: readonly (string | number | bigint | null)[]): string {
  return values.filter((value) => value !== null).join(':');
}

/** Throws unless the two are the same. */
export function same<T>(actual: T, expected: T, what: string): void {
  if (actual !== expected)
    throw new Error(`${what}:\n  is       ${String(actual)}\n  expected ${String(expected)}`);
}
