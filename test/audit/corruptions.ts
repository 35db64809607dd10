import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { type Db, UUID } from 'mongodb';
import type { InvariantId } from '../../src/audit/catalogue.ts';
import { HOLDER, nobody, type Scene } from './scene.ts';

/** A wrong row, key, document or line, and how it is taken back. */
export interface Corruption {
  /** What the audit must name: the invariant, and what breaks with it of necessity. */
  readonly named: readonly InvariantId[];
  readonly spoil: () => Promise<unknown>;
  readonly restore: () => Promise<unknown>;
  /** Instead of the worker's own log. */
  readonly workLog?: string;
}

type Sql = (text: string, ...params: unknown[]) => Promise<unknown>;

/** Changes one row and changes it back. */
function update(sql: Sql, table: string, set: string, undo: string, where: string, ...params: unknown[]) {
  return {
    spoil: () => sql(`update ${table} set ${set} where ${where}`, ...params),
    restore: () => sql(`update ${table} set ${undo} where ${where}`, ...params),
  };
}

/** Takes one document away and puts it back. */
function withoutDocument(mongo: Db, section: 'requests' | 'attempts', id: UUID | string) {
  const collection = mongo.collection<{ _id: UUID | string }>(section);
  let kept: { _id: UUID | string } | null = null;
  return {
    spoil: async () => {
      kept = await collection.findOneAndDelete({ _id: id });
    },
    restore: async () => kept && (await collection.insertOne(kept)),
  };
}

/** A log of one real line and another one. */
function withLine(workLog: string, change: object) {
  const spoilt = `${workLog}.spoilt`;
  return {
    spoil: async () => {
      const [line = ''] = readFileSync(workLog, 'utf8').split('\n');
      writeFileSync(spoilt, `${line}\n`);
      appendFileSync(spoilt, `${JSON.stringify({ ...JSON.parse(line), ...change })}\n`);
    },
    restore: () => Promise.resolve(),
    workLog: spoilt,
  };
}

const transfer = (phase: number) => `id = $1 and phase = ${phase}`;
const acme = `id = (select account_id from jobs.jobs where id = $1)`;

/** For each invariant one thing that breaks it, in the scene after its coordinator stopped. */
export async function corruptionsOf(scene: Scene): Promise<Readonly<Record<InvariantId, Corruption>>> {
  const { jobs, redis, mongo, cell, otherCell, holder, workLog } = scene;
  const sql: Sql = (text, ...params) => scene.world.books.sql(text, params);
  // This connection may then do what no role can: no trigger stands in its way.
  await sql('set session_replication_role = replica');
  const record = `${cell}:worker:${HOLDER}`;
  const free = (await redis.hget(record, 'shown_free')) ?? '';
  const lease = (await redis.hget(`${cell}:leases`, jobs.open)) ?? '';
  const ends = await redis.zscore(`${cell}:expiry`, jobs.open);
  return {
    'credits.balanced': {
      named: ['credits.balanced'],
      ...update(
        sql,
        'credits.transfers',
        'credit_account_id = 1',
        'credit_account_id = 2',
        transfer(1),
        jobs.succeeded,
      ),
    },
    'credits.no_overdraft': {
      named: ['credits.no_overdraft', 'credits.counters'],
      spoil: async () => {
        await sql('alter table credits.accounts drop constraint no_overdraft');
        await sql(
          `update credits.accounts set held_micro = held_micro + 1000000000000 where ${acme}`,
          jobs.open,
        );
      },
      restore: async () => {
        await sql(
          `update credits.accounts set held_micro = held_micro - 1000000000000 where ${acme}`,
          jobs.open,
        );
        await sql(`alter table credits.accounts add constraint no_overdraft
                   check (captured_micro + held_micro <= credited_micro)`);
      },
    },
    'credits.counters': {
      named: ['credits.counters'],
      ...update(
        sql,
        'credits.accounts',
        'captured_micro = captured_micro + 1',
        'captured_micro = captured_micro - 1',
        acme,
        jobs.open,
      ),
    },
    'credits.resolved_once': {
      named: ['credits.resolved_once'],
      spoil: async () => {
        await sql('alter table credits.transfers drop constraint phase_of_kind');
        await sql(
          `insert into credits.transfers (id, phase, kind, debit_account_id, credit_account_id, amount_micro)
                 select id, 2, 'void', debit_account_id, 2, 0 from credits.transfers where ${transfer(1)}`,
          jobs.succeeded,
        );
      },
      restore: async () => {
        await sql(`delete from credits.transfers where ${transfer(2)}`, jobs.succeeded);
        await sql(`alter table credits.transfers add constraint phase_of_kind
                   check (phase = case when kind in ('top_up', 'lock') then 0 else 1 end)`);
      },
    },
    'credits.capture_within_lock': {
      named: ['credits.counters', 'credits.capture_within_lock', 'credits.charge_amount'],
      ...update(
        sql,
        'credits.transfers',
        'amount_micro = amount_micro + 1000',
        'amount_micro = amount_micro - 1000',
        transfer(1),
        jobs.succeeded,
      ),
    },
    'credits.lock_amount': {
      named: ['credits.lock_amount'],
      ...update(
        sql,
        'credits.transfers',
        'amount_micro = amount_micro + 1',
        'amount_micro = amount_micro - 1',
        transfer(0),
        jobs.failed,
      ),
    },
    'credits.charge_amount': {
      named: ['credits.charge_amount'],
      ...update(
        sql,
        'jobs.jobs',
        'charged_micro = charged_micro - 1',
        'charged_micro = charged_micro + 1',
        'id = $1',
        jobs.succeeded,
      ),
    },
    'credits.job_exists': {
      named: ['credits.job_exists'],
      spoil: async () => {
        await sql(`create temporary table kept as select * from jobs.jobs where id = '${jobs.failed}'`);
        await sql('delete from jobs.jobs where id = $1', jobs.failed);
      },
      restore: () => sql('insert into jobs.jobs select * from kept'),
    },
    'jobs.one_state': {
      named: ['jobs.one_state'],
      ...update(sql, 'jobs.jobs', `outcome = 'failed'`, `outcome = 'completed'`, 'id = $1', jobs.succeeded),
    },
    'jobs.open_is_held': {
      named: ['credits.counters', 'jobs.open_is_held'],
      spoil: () =>
        sql(
          `insert into credits.transfers (id, phase, kind, debit_account_id, credit_account_id, amount_micro)
           select id, 1, 'void', debit_account_id, 2, 0 from credits.transfers where ${transfer(0)}`,
          jobs.open,
        ),
      restore: () => sql(`delete from credits.transfers where ${transfer(1)}`, jobs.open),
    },
    'jobs.ended_is_resolved': {
      named: ['jobs.ended_is_resolved'],
      ...update(sql, 'credits.transfers', `kind = 'expire'`, `kind = 'void'`, transfer(1), jobs.lost),
    },
    'jobs.unlocked_is_free': {
      named: ['jobs.unlocked_is_free'],
      ...update(sql, 'jobs.jobs', 'locked_micro = 1', 'locked_micro = 0', 'id = $1', jobs.refused),
    },
    'jobs.attempts_kept': {
      named: ['jobs.attempts_kept'],
      spoil: () =>
        sql(
          `insert into jobs.attempts (job_id, attempt, ended_at, node, session, outcome, class, code, is_counted, is_owed)
           values ($1, 7, now(), 'n1', 1, 'lost', 'node', 'TG_WORKER_LOST', true, true)`,
          jobs.open,
        ),
      restore: () => sql('delete from jobs.attempts where job_id = $1', jobs.open),
    },
    'jobs.not_overdue': {
      named: ['jobs.not_overdue'],
      ...update(
        sql,
        'jobs.jobs',
        `deadline = deadline - interval '1 day'`,
        `deadline = deadline + interval '1 day'`,
        'id = $1',
        jobs.open,
      ),
    },
    'jobs.answered': {
      named: ['jobs.answered'],
      ...update(
        sql,
        'jobs.jobs',
        `reply_owed = true, ended_at = ended_at - interval '1 day'`,
        `reply_owed = false, ended_at = ended_at + interval '1 day'`,
        'id = $1',
        jobs.lost,
      ),
    },
    'records.exist': {
      named: ['records.exist'],
      ...update(
        sql,
        'jobs.jobs',
        'publisher_id = -publisher_id',
        'publisher_id = -publisher_id',
        'id = $1',
        jobs.expired,
      ),
    },
    'dispatch.locked': { named: ['dispatch.locked'], ...withLine(workLog, { job: nobody() }) },
    'dispatch.lock_first': {
      named: ['dispatch.lock_first'],
      ...withLine(workLog, { job: jobs.failed, received_at_ms: 1, node: HOLDER, session: holder.session }),
    },
    'dispatch.once': { named: ['dispatch.once'], ...withLine(workLog, {}) },
    'slots.counted': {
      named: ['slots.counted'],
      spoil: () => redis.hset(record, 'shown_free', Number(free) + 1),
      restore: () => redis.hset(record, 'shown_free', free),
    },
    'slots.not_leaked': {
      named: ['slots.not_leaked'],
      // The lease of another attempt, which a heartbeat has just extended beyond all bounds.
      spoil: () =>
        redis
          .multi()
          .hset(`${cell}:leases`, jobs.open, lease.replace(/^1 /, '2 '))
          .zadd(`${cell}:expiry`, Number(ends) + 86_400_000, jobs.open)
          .exec(),
      restore: () =>
        redis
          .multi()
          .hset(`${cell}:leases`, jobs.open, lease)
          .zadd(`${cell}:expiry`, Number(ends), jobs.open)
          .exec(),
    },
    'slots.one_lease': {
      named: ['slots.not_leaked', 'slots.one_lease'],
      // In the other cell, for a node that PostgreSQL did not give the job to.
      spoil: () =>
        redis
          .multi()
          .hset(`${otherCell}:leases`, jobs.open, '1 n9 1 held')
          .sadd(`${otherCell}:held:n9:1`, jobs.open)
          .exec(),
      restore: () =>
        redis.multi().hdel(`${otherCell}:leases`, jobs.open).del(`${otherCell}:held:n9:1`).exec(),
    },
    'traces.requests': {
      named: ['traces.requests'],
      ...withoutDocument(mongo, 'requests', new UUID(jobs.refused)),
    },
    'traces.attempts': {
      named: ['traces.attempts'],
      ...withoutDocument(mongo, 'attempts', `${jobs.lost}.1`),
    },
  };
}
