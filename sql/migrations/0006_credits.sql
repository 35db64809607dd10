-- The ledger: counters per account, and append-only transfers partitioned by the month inside their id.
-- Expected duration: milliseconds. Locks: none that others wait for.
set local role tollgate_credits_owner;

create type credits.account_kind as enum ('customer', 'system');

-- free = credited - captured - held. The check makes an overdraft impossible for wrong code too, ours included.
-- No index on a counter and half of each page free: every update is a heap-only one. System accounts (revenue, deposits)
-- keep their counters at zero, for all jobs would queue for one row; their balance is the sum of their transfers.
create table credits.accounts (
  id integer primary key,
  kind credits.account_kind not null,
  credited_micro bigint not null default 0 check (credited_micro >= 0),
  captured_micro bigint not null default 0 check (captured_micro >= 0),
  held_micro bigint not null default 0 check (held_micro >= 0),
  constraint no_overdraft check (captured_micro + held_micro <= credited_micro)
) with (fillfactor = 50);

create type credits.transfer_kind as enum ('top_up', 'lock', 'capture', 'void', 'expire');

-- One immutable row carries debit, credit and amount, so debits equal credits by construction. A lock (phase 0) is pending;
-- its resolution (phase 1, same id) is the posting transfer: a capture of at most the lock, or a void or expiry of nothing.
-- The primary key allows one resolution, in the lock's own partition. Top-ups are phase 0 with an id of their own.
create table credits.transfers (
  id uuid not null,
  at timestamptz not null default clock_timestamp(),
  amount_micro bigint not null check (amount_micro between 0 and 9007199254740991),
  debit_account_id integer not null,
  credit_account_id integer not null,
  kind credits.transfer_kind not null,
  phase smallint not null,
  -- Of the result that was settled; the same result again is answered again, another one is an anomaly.
  digest bytea check (octet_length(digest) = 32),
  primary key (id, phase),
  constraint two_accounts check (debit_account_id <> credit_account_id),
  constraint phase_of_kind check (phase = case when kind in ('top_up', 'lock') then 0 else 1 end),
  constraint nothing_is_voided check (kind not in ('void', 'expire') or amount_micro = 0)
) partition by range (id);

create function credits.refuse_change() returns trigger
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  raise exception '%.% is append-only', tg_table_schema, tg_table_name using errcode = 'restrict_violation';
end
$$;
create trigger append_only before update or delete on credits.transfers
  for each row execute function credits.refuse_change();
-- Row triggers are cloned to partitions, statement triggers are not: each partition gets its own when it is made.
create trigger append_only_truncate before truncate on credits.transfers
  for each statement execute function credits.refuse_change();
revoke update, delete, truncate on credits.transfers from tollgate_credits_owner;

-- Makes the partitions of months -1 to +3 that are missing; answers how many. As jobs.ensure_partitions.
create function credits.ensure_partitions() returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
  v_month timestamptz;
  v_name text;
  v_made integer := 0;
begin
  perform pg_advisory_xact_lock(hashtext('tollgate.credits.ensure_partitions'));
  for v_step in -1..3 loop
    v_month := (date_trunc('month', now() at time zone 'UTC') + make_interval(months => v_step)) at time zone 'UTC';
    v_name := format('transfers_%s', to_char(v_month at time zone 'UTC', 'YYYYMM'));
    continue when to_regclass(format('credits.%I', v_name)) is not null;
    execute format('create table credits.%I (like credits.transfers including all)', v_name);
    execute format('create trigger append_only_truncate before truncate on credits.%I
                      for each statement execute function credits.refuse_change()', v_name);
    execute format('revoke update, delete, truncate on credits.%I from tollgate_credits_owner', v_name);
    execute format('alter table credits.transfers attach partition credits.%I for values from (%L) to (%L)',
                   v_name, jobs.first_id(v_month),
                   jobs.first_id((v_month at time zone 'UTC' + interval '1 month') at time zone 'UTC'));
    v_made := v_made + 1;
  end loop;
  return v_made;
end
$$;

-- 1 is where top-ups come from, 2 is where captures go.
insert into credits.accounts (id, kind) values (1, 'system'), (2, 'system');

create function credits.open_account(p_id integer) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  insert into credits.accounts (id, kind) values (p_id, 'customer');
end
$$;

-- Statement 1 of everything that moves credits stands in each function: rows in id order, so that two batches never wait in
-- a circle; NO KEY, so that a reference to an account would not wait; unknown ids are passed over. This is the same for
-- functions of jobs, which must keep the order of locks and have no rights here.
create function credits.lock_accounts(p_ids integer[]) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set jit = off set enable_seqscan = off as $$
begin
  perform from credits.accounts where id = any (p_ids) order by id for no key update;
end
$$;

-- Tokens times price per 1,000,000 tokens, rounded up once. The bounds of tokens and prices keep it inside bigint; a
-- number beyond them is an error (22003), not a wrong amount.
create function credits.cost_micro(
  p_input_tokens integer, p_output_tokens integer, p_input_price_micro bigint, p_output_price_micro bigint
) returns bigint
language sql immutable parallel safe
return (p_input_tokens * p_input_price_micro + p_output_tokens * p_output_price_micro + 999999) / 1000000;

grant select on credits.accounts, credits.transfers to tollgate_auditor;
grant execute on function credits.open_account(integer) to tollgate_identity_owner;
grant execute on function credits.lock_accounts(integer[]) to tollgate_jobs_owner;
grant execute on function credits.ensure_partitions() to tollgate_dispatcher, tollgate_migrator;
reset role;
