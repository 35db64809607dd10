-- What PostgreSQL says of these jobs' attempts and of the commit of their locks; a row for every id, also for one that nobody knows.
-- The commit's time is null where the server does not track it, or has forgotten it. Params: $1 ids uuid[].
-- Returns: one row per id, in any order. Locks: none.
select w.id, j.state, j.attempt, j.node, j.session, l.kind is not distinct from 'lock' as has_lock,
       case when current_setting('track_commit_timestamp') = 'on'
            then extract(epoch from pg_xact_commit_timestamp(l.xmin))::double precision * 1000 end as lock_committed_at_ms,
       current_setting('track_commit_timestamp') = 'on' as is_tracked,
       array(select i.attempt || ' ' || i.node || ' ' || i.session from jobs.attempts i where i.job_id = w.id) as given_up
  from unnest($1::uuid[]) as w (id)
  left join lateral (select i.state, i.attempt, i.node, i.session from jobs.jobs i where i.id = w.id limit 1) as j on true
  left join lateral (select t.kind, t.xmin from credits.transfers t where t.id = w.id and t.phase = 0 limit 1) as l on true;
