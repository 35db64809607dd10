/**
 * Every invariant of the audit, in the order of its report: a stable id and what must hold. What proves each, how a system that is
 * moving is treated, and what to do when one is broken stands in `docs/audit.md`; a test keeps the two lists the same.
 */
export const INVARIANTS = {
  'credits.balanced':
    'debits equal credits: every transfer moves one amount between the two accounts of its kind',
  'credits.no_overdraft': 'no account has spent and set aside more than it was credited',
  'credits.counters': "every account's counters are what its transfers add up to",
  'credits.resolved_once': 'every lock is resolved at most once, and every resolution resolves a lock',
  'credits.capture_within_lock': 'no capture is more than its lock',
  'credits.lock_amount': "every lock is the price of its job's limits",
  'credits.charge_amount': "every charge is the price of its job's usage within its limits, at most the lock",
  'credits.job_exists': 'no transfer without a job, top-ups aside',
  'jobs.one_state': 'every job is in exactly one state, and its row agrees with it',
  'jobs.open_is_held': 'every open job has a lock that is not resolved',
  'jobs.ended_is_resolved': 'every job that ended after a lock has it resolved, the way it ended',
  'jobs.unlocked_is_free': 'no job that was refused or expired in its queue has a transfer',
  'jobs.attempts_kept': 'every attempt that was given up for a later one has its row',
  'jobs.not_overdue': 'no open job is past its deadline for longer than the sweep needs',
  'jobs.answered': 'no reply is owed for longer than the sweep needs',
  'records.exist':
    'no job and no transfer names an account, namespace, publisher or model version that is not there',
  'dispatch.locked': 'every attempt that a worker ran has a credit lock, and ran where PostgreSQL says',
  'dispatch.lock_first': 'every lock was committed before the worker received the dispatch',
  'dispatch.once': 'no attempt was run twice',
  'slots.counted': "every worker's leases are counted, each once",
  'slots.not_leaked': 'every lease belongs to an open job, on that attempt, node and session',
  'slots.one_lease': 'no job has two leases',
  'traces.requests': 'every job has its request in the traces',
  'traces.attempts': 'every attempt that ended has its document in the traces',
} as const;

/** The id of an invariant: stable, for scripts and alarms. */
export type InvariantId = keyof typeof INVARIANTS;
