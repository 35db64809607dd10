import { AccountSums } from './account-sums.ts';
import type { InvariantId } from './catalogue.ts';
import type { Findings } from './findings.ts';
import { FIRST_UUID, pagesOf } from './pages.ts';
import type { AccountRow, TransferRow } from './rows.ts';
import type { AuditBounds, AuditStores } from './types.ts';

/** Where top-ups come from, and where captures go. Source: sql/migrations/0006_credits.sql. */
const DEPOSITS = 1;
const REVENUE = 2;

/** What the two walks over accounts and transfers judge. */
export const CREDIT_INVARIANTS: readonly InvariantId[] = [
  'credits.balanced',
  'credits.no_overdraft',
  'credits.counters',
  'credits.resolved_once',
  'credits.capture_within_lock',
  'credits.job_exists',
];

/**
 * Reads all accounts, then all transfers. The accounts come first with the snapshot of their counters; transfers committed later
 * are judged too, but not added up. Memory: the accounts.
 */
export async function walkCredits(
  { database }: AuditStores,
  { pageRows }: AuditBounds,
  findings: Findings,
): Promise<void> {
  const sums = new AccountSums();
  const accounts = pagesOf<AccountRow>(pageRows, (after) =>
    database.query('audit_accounts', [after?.id ?? 0, pageRows]),
  );
  for await (const page of accounts) {
    findings.checked(['credits.no_overdraft', 'credits.counters', 'records.exist'], page.length);
    for (const account of page) judgeAccount(account, findings);
    for (const account of page) sums.open(account);
  }
  const judge = new TransferJudge(sums, findings);
  const transfers = pagesOf<TransferRow>(pageRows, (after) =>
    database.query('audit_transfers', [after?.id ?? FIRST_UUID, after?.phase ?? 0, pageRows]),
  );
  for await (const page of transfers) for (const transfer of page) judge.take(transfer);
  for (const { id, what } of sums.differences()) findings.broken('credits.counters', `account ${id}`, what);
}

function judgeAccount(account: AccountRow, findings: Findings): void {
  const { id, credited_micro: credited, captured_micro: captured, held_micro: held } = account;
  const subject = `account ${id}`;
  if (captured + held > credited || held < 0n || captured < 0n) {
    const what = `${captured} captured and ${held} held of ${credited} micro-credits`;
    findings.broken('credits.no_overdraft', subject, what);
  }
  if (!account.has_owner) findings.broken('records.exist', subject, 'it has counters and no customer');
}

/** Judges transfers in the order of (id, phase): a lock comes right before what resolves it. */
class TransferJudge {
  readonly #sums: AccountSums;
  readonly #findings: Findings;
  #lock: TransferRow | null = null;
  #resolutions = 0;

  constructor(sums: AccountSums, findings: Findings) {
    this.#sums = sums;
    this.#findings = findings;
  }

  take(transfer: TransferRow): void {
    const { id, kind } = transfer;
    if (this.#lock?.id !== id) {
      this.#lock = null;
      this.#resolutions = 0;
    }
    this.#broken('credits.balanced', transfer, balanceFault(transfer, this.#lock));
    this.#broken('records.exist', transfer, accountFault(transfer));
    if (kind !== 'top_up')
      this.#broken('credits.job_exists', transfer, transfer.has_job ? null : 'there is no such job');
    if (kind === 'lock') this.#lock = transfer;
    else if (kind !== 'top_up') this.#takeResolution(transfer);
    // A second resolution frees nothing more.
    this.#sums.count(transfer, this.#resolutions > 1 ? null : this.#lock);
  }

  #takeResolution(transfer: TransferRow): void {
    const { kind, amount_micro: amount } = transfer;
    this.#resolutions += 1;
    const isSecond = this.#resolutions > 1 ? `its lock is resolved again by this ${kind}` : null;
    const fault = this.#lock === null ? `this ${kind} resolves no lock` : isSecond;
    this.#broken('credits.resolved_once', transfer, fault);
    if (kind !== 'capture') return;
    const limit = this.#lock?.amount_micro ?? amount;
    const excess = amount > limit ? `it captures ${amount} micro-credits of a lock of ${limit}` : null;
    this.#broken('credits.capture_within_lock', transfer, excess);
  }

  #broken(id: InvariantId, transfer: TransferRow, what: string | null): void {
    this.#findings.checked([id], 1);
    if (what !== null) this.#findings.broken(id, transfer.id, what);
  }
}

/** The two accounts of each kind: a top-up comes from the deposits, everything else goes from a customer to the revenue. */
function balanceFault(transfer: TransferRow, lock: TransferRow | null): string | null {
  const { kind, debit_account_id: debit, credit_account_id: credit, amount_micro: amount } = transfer;
  const isTopUp = kind === 'top_up';
  const customerKind = isTopUp ? transfer.credit_kind : transfer.debit_kind;
  const isRight = isTopUp ? debit === DEPOSITS : credit === REVENUE;
  if (!isRight || customerKind === 'system')
    return `a ${kind} does not go from account ${debit} to account ${credit}`;
  if (amount < 0n) return `it moves ${amount} micro-credits`;
  if (amount > 0n && (kind === 'void' || kind === 'expire')) return `a ${kind} moves ${amount} micro-credits`;
  if (lock !== null && (lock.debit_account_id !== debit || lock.credit_account_id !== credit))
    return `it does not go between the accounts of its lock`;
  return null;
}

function accountFault({ debit_account_id: debit, credit_account_id: credit, ...kinds }: TransferRow) {
  if (kinds.debit_kind === null) return `account ${debit} is not there`;
  return kinds.credit_kind === null ? `account ${credit} is not there` : null;
}
