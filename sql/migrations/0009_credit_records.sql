-- What operators do and see: top-ups, accounts, the story of one job.
-- Expected duration: milliseconds. Locks: none that others wait for.
set local role tollgate_credits_owner;

-- Adds credit to an account. Idempotent by `p_id`, a UUIDv7 of the caller's: `new`, or `exists` for the same top-up again.
-- The id with another account or amount is 23505, outside the window 22023, an unknown account P0002.
create function credits.top_up(p_id uuid, p_account text, p_amount_micro bigint)
returns table (answer text, free_micro bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_account constant integer := identity.account_id(p_account);
  v_before credits.transfers;
  v_answer text := 'exists';
begin
  perform credits.lock_accounts(array[v_account]);
  select * into v_before from credits.transfers where id = p_id and phase = 0;
  if not found then
    if p_id < jobs.first_id(clock_timestamp() - interval '7 days')
       or p_id >= jobs.first_id(clock_timestamp() + interval '10 minutes') then
      raise exception 'the time in id % is outside the accepted window', p_id using errcode = 'invalid_parameter_value';
    end if;
    if p_amount_micro is null or p_amount_micro <= 0 then
      raise exception 'a top-up is more than zero' using errcode = 'invalid_parameter_value';
    end if;
    insert into credits.transfers (id, phase, kind, debit_account_id, credit_account_id, amount_micro)
    values (p_id, 0, 'top_up', 1, v_account, p_amount_micro);
    update credits.accounts set credited_micro = credited_micro + p_amount_micro where id = v_account;
    v_answer := 'new';
  elsif (v_before.kind, v_before.credit_account_id, v_before.amount_micro)
        is distinct from ('top_up'::credits.transfer_kind, v_account, p_amount_micro) then
    raise exception 'id % was used for another transfer', p_id using errcode = 'unique_violation';
  end if;
  return query select v_answer, a.credited_micro - a.captured_micro - a.held_micro
                 from credits.accounts a where a.id = v_account;
end
$$;

-- An account with its credit and its namespaces.
create function credits.show_account(p_account text) returns table (
  id integer, name text, credited_micro bigint, captured_micro bigint, held_micro bigint, namespaces text[]
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_account constant integer := identity.account_id(p_account);
begin
  return query
  select i.id, i.name, a.credited_micro, a.captured_micro, a.held_micro,
         array(select n.name from identity.namespaces n where n.account_id = i.id order by n.name)
    from identity.accounts i join credits.accounts a on a.id = i.id
   where i.id = v_account;
end
$$;

-- One job's row, its lock and its resolution with the times of their commits, for people. Commit times are null on a server
-- that does not track them.
create function credits.job_story(p_id uuid) returns table (
  job_id uuid, state jobs.state, code text, kind jobs.kind, priority jobs.priority, account text, namespace text,
  publisher text, model text, model_version integer, model_version_id integer, input_price_micro bigint, output_price_micro bigint,
  input_tokens_max integer, output_tokens_max integer, timeout_ms integer, input_tokens integer, output_tokens integer,
  attempt smallint, attempts_max smallint, node text, session bigint, outcome jobs.outcome, reply_owed boolean,
  created_at timestamptz, start_by timestamptz, deadline timestamptz, ended_at timestamptz,
  locked_micro bigint, charged_micro bigint,
  lock_at timestamptz, lock_committed_at timestamptz,
  resolution credits.transfer_kind, resolution_micro bigint, resolution_at timestamptz,
  resolution_committed_at timestamptz, result_digest bytea
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_tracked constant boolean := current_setting('track_commit_timestamp') = 'on';
begin
  return query
  select j.id, j.state, j.code, j.kind, j.priority, a.name, n.name, p.name, m.name, v.version, v.id, v.input_price_micro,
         v.output_price_micro, j.input_tokens_max, j.output_tokens_max, j.timeout_ms, j.input_tokens, j.output_tokens,
         j.attempt, j.attempts_max, j.node, j.session, j.outcome, j.reply_owed, j.created_at, j.start_by, j.deadline,
         j.ended_at, j.locked_micro, j.charged_micro,
         l.at, case when v_tracked then pg_xact_commit_timestamp(l.xmin) end,
         s.kind, s.amount_micro, s.at, case when v_tracked then pg_xact_commit_timestamp(s.xmin) end, s.digest
    from jobs.jobs j
    left join identity.accounts a on a.id = j.account_id
    left join identity.namespaces n on n.id = j.namespace_id
    left join identity.publishers p on p.id = j.publisher_id
    left join network.model_versions v on v.id = j.model_version_id
    left join network.models m on m.id = v.model_id
    left join credits.transfers l on l.id = p_id and l.phase = 0 and l.kind = 'lock'
    left join credits.transfers s on s.id = p_id and s.phase = 1
   where j.id = p_id;
end
$$;

grant execute on function credits.top_up(uuid, text, bigint) to tollgate_billing;
grant execute on function credits.show_account(text) to tollgate_billing, tollgate_operator;
grant execute on function credits.job_story(uuid) to tollgate_dispatcher, tollgate_operator, tollgate_auditor;
reset role;
