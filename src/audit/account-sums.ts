import type { AccountRow, TransferRow } from './rows.ts';
import { Snapshot } from './snapshot.ts';

interface Sum {
  readonly account: AccountRow;
  readonly snapshot: Snapshot;
  creditedMicro: bigint;
  capturedMicro: bigint;
  heldMicro: bigint;
}

/**
 * Counters of accounts, computed anew from the transfers that their own snapshot had seen: exact also while credits move. Holds a
 * few hundred bytes per account.
 */
export class AccountSums {
  readonly #byId = new Map<number, Sum>();

  /** Takes an account before any of its transfers. */
  open(account: AccountRow): void {
    const snapshot = new Snapshot(account.snapshot, account.read_at_ms);
    this.#byId.set(account.id, { account, snapshot, creditedMicro: 0n, capturedMicro: 0n, heldMicro: 0n });
  }

  /** Counts a transfer; `lock` is the one it resolves, if it is a resolution. A system account's balance has no counter. */
  count(transfer: TransferRow, lock: TransferRow | null): void {
    const { kind, amount_micro: amountMicro } = transfer;
    const id = kind === 'top_up' ? transfer.credit_account_id : transfer.debit_account_id;
    const sum = this.#byId.get(id);
    if (sum === undefined || sum.account.kind === 'system') return;
    if (!sum.snapshot.sees(transfer.xid, transfer.at_ms)) return;
    if (kind === 'top_up') sum.creditedMicro += amountMicro;
    else if (kind === 'lock') sum.heldMicro += amountMicro;
    else {
      sum.heldMicro -= lock?.amount_micro ?? 0n;
      if (kind === 'capture') sum.capturedMicro += amountMicro;
    }
  }

  /** Accounts whose counters are not their sums, each with a sentence. */
  *differences(): Generator<{ readonly id: number; readonly what: string }> {
    for (const { account, creditedMicro, capturedMicro, heldMicro } of this.#byId.values()) {
      const pairs = [
        ['credited', account.credited_micro, creditedMicro],
        ['captured', account.captured_micro, capturedMicro],
        ['held', account.held_micro, heldMicro],
      ] as const;
      const wrong = pairs.filter(([, counter, sum]) => counter !== sum);
      if (wrong.length === 0) continue;
      const parts = wrong.map(([name, counter, sum]) => `${name} is ${counter} and adds up to ${sum}`);
      yield { id: account.id, what: `in micro-credits, ${parts.join('; ')}` };
    }
  }
}
