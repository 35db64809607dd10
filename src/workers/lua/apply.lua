-- Takes in one message of a worker: hello, heartbeat, drain or bye. Each carries the whole state, so all four are one script.
-- ARGV[5] kind, ARGV[6] node, ARGV[7] session, ARGV[8] seq, ARGV[9] slots_total, ARGV[10] slots_in_use, ARGV[11] pools and
-- ARGV[12] warm models, both separated by blanks, then job, attempt, tokens so far (-1: not said) for each lease that it names.
-- Returns {1} applied, {0} ignored (older than what is known, or the session was given up as lost), {-1} a newer session is
-- known, {2, old_session} applied and took over. O(leases named + pools, log n each).
-- Idempotent: seq must grow within a session. A lease that the worker names lives on for lease_ttl_ms; `unleased` counts what it
-- holds beyond that. A drain holds until the session ends.
local kind, node, session, seq = ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])
local slots_total, slots_in_use, pools, warm = tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11], ARGV[12]
local record = base .. ':worker:' .. node
-- Longer than a message can wait in the queue, so that none of a session that said bye brings it back.
local GONE_KEPT_MS = LOST_AFTER_MS * 4

local old = worker(node)
local superseded = nil
if old then
  if tonumber(session) < tonumber(old.session) then return { -1 } end
  if session == old.session and (seq <= old.seq or old.state == 'lost') then return { 0 } end
  if session ~= old.session then
    superseded = old.session
    drop_session(node, superseded)
    -- Whatever PostgreSQL still has open of that session has to end, through the same door as for a lost worker.
    if old.state ~= 'gone' then redis.call('ZADD', base .. ':lost', 'NX', now, node .. ' ' .. superseded) end
  end
end

-- Leases that this session holds live on; what it holds beside them is counted.
local jobs, attempts, stages = {}, {}, {}
for at = 13, #ARGV, 3 do
  jobs[#jobs + 1], attempts[#attempts + 1] = ARGV[at], ARGV[at + 1]
  stages[#stages + 1] = tonumber(ARGV[at + 2]) > 0 and 'streaming' or 'begun'
end
local found = read_fields(base .. ':leases', jobs)
local known = read_fields(base .. ':progress', jobs)
local extended, progress = {}, {}
local unleased = math.max(0, slots_in_use - #jobs)
for i = 1, #jobs do
  if found[i] and is_lease_of(found[i], attempts[i], node, session) then
    extended[#extended + 1] = now + LEASE_TTL_MS
    extended[#extended + 1] = jobs[i]
    local stage = attempts[i] .. ' ' .. stages[i]
    if known[i] ~= stage then
      progress[#progress + 1] = jobs[i]
      progress[#progress + 1] = stage
    end
  else
    local released_at = tonumber(redis.call('ZSCORE', base .. ':released', jobs[i] .. '.' .. attempts[i]) or nil)
    if not released_at or now - released_at >= HEARTBEAT_MS then unleased = unleased + 1 end
  end
end
call_chunked('ZADD', base .. ':expiry', extended)
call_chunked('HSET', base .. ':progress', progress)

local state = 'live'
if kind == 'bye' then
  state, unleased = 'gone', 0
elseif kind == 'drain' or (old and not superseded and old.state == 'draining') then
  state = 'draining'
end

local w = old or { members = '', shown_slots = 0, shown_free = 0 }
w.session, w.state, w.slots, w.unleased, w.pools, w.warm = session, state, slots_total, unleased, pools, set_of(warm)
workers[node] = w
redis.call('HSET', record, 'session', session, 'seq', seq, 'state', state, 'slots', slots_total, 'unleased', unleased, 'pools', pools,
  'warm', warm, 'beat', now)
end_dropped()
refresh(node)
write_sums()

-- One that left with leases stays under watch: the results may be on their way, and if not they end like those of a lost one.
if state == 'gone' and redis.call('EXISTS', held_key(node, session)) == 0 then
  redis.call('ZREM', base .. ':beats', node)
  redis.call('PEXPIRE', record, GONE_KEPT_MS)
else
  redis.call('ZADD', base .. ':beats', now, node)
  redis.call('PERSIST', record)
end
if superseded then return { 2, superseded } end
return { 1 }
