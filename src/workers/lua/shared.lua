-- What the scripts of the fleet share; it is put in front of each of them when they are loaded.
-- KEYS[1] the base of one cell, `{<prefix>:<cell>}`: every key begins with it, so that all of them are in one hash slot.
-- ARGV[1] wake_channel, ARGV[2] lease_ttl_ms, ARGV[3] lost_after_ms, ARGV[4] heartbeat_ms; a script's own follow from ARGV[5].
-- Time is Redis' own, in ms: the clocks of coordinators and workers are never compared.
--
--   epoch                  string  when this Redis was first seen empty
--   open                   string  that epoch, once the cell was given back what PostgreSQL has open: before, no new job gets a slot
--   watch                  hash    since, last: how long somebody who listens has asked for the lost without a break
--   worker:<node>          hash    the live session and what it said last; the fields are in `worker` below
--   held:<node>:<session>  set     jobs that have a lease there: its size is the number of slots in use
--   leases                 hash    job -> "<attempt> <node> <session> <pool>"
--   expiry                 zset    job by the time its lease ends
--   progress               hash    job -> "<attempt> begun|streaming", once the worker has named it in a heartbeat
--   released               zset    "<job>.<attempt>" by the time of its release, kept for heartbeat_ms
--   pool:<pool>            zset    node by score: the head is the best worker, 0 means no free slot
--   slots                  hash    "<pool> workers|total|free": sums over the pool's members
--   waiting                set     pools that somebody waits for
--   beats                  zset    node by the time of its last message
--   suspect:<queue>:<digest>  string  tries of a message that may have killed a coordinator
--   lost                   zset    "<node> <session>" by the time it was given up, until it is forgotten
--
-- Occupancy. A lease is a right that only a coordinator gives (reserve, rebuild); a heartbeat extends one and never makes one.
-- What a worker holds without a lease (its lease was ended while it ran on, or Redis forgot it) still fills a real slot: the
-- heartbeat counts it as `unleased`. Slots in use = leases + unleased. A heartbeat may be older than a release that overtook it,
-- so what was released within the last heartbeat_ms counts as free; the node's prefetch is the hard cap for what that misjudges.
local base = KEYS[1]
local WAKE_CHANNEL = ARGV[1]
local LEASE_TTL_MS, LOST_AFTER_MS, HEARTBEAT_MS = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
-- A warm worker's score is its free slots plus this: more than any number of slots, so warm ones come first.
local WARM = 8192
-- Lua's `unpack` fails above about 7,900 values.
local CHUNK = 1000

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('SET', base .. ':epoch', now, 'NX')

local function words(text)
  local list = {}
  for word in string.gmatch(text, '%S+') do list[#list + 1] = word end
  return list
end

local function set_of(text)
  local set = {}
  for word in string.gmatch(text, '%S+') do set[word] = true end
  return set
end

-- Calls `command key` with all of `list`, a bounded number at a time; returns the sum of the answers.
local function call_chunked(command, key, list)
  local sum = 0
  for first = 1, #list, CHUNK do
    sum = sum + redis.call(command, key, unpack(list, first, math.min(first + CHUNK - 1, #list)))
  end
  return sum
end

-- HMGET of any number of fields; absent ones are false.
local function read_fields(key, fields)
  local values = {}
  for first = 1, #fields, CHUNK do
    local last = math.min(first + CHUNK - 1, #fields)
    local part = redis.call('HMGET', key, unpack(fields, first, last))
    for i = 1, #part do values[first + i - 1] = part[i] end
  end
  return values
end

local function held_key(node, session)
  return base .. ':held:' .. node .. ':' .. session
end

local function parse_lease(text)
  local attempt, node, session, pool = string.match(text, '^(%d+) (%S+) (%d+) (%S+)$')
  return { attempt = tonumber(attempt), node = node, session = session, pool = pool }
end

local function is_lease_of(text, attempt, node, session)
  local name = attempt .. ' ' .. node .. ' ' .. session .. ' '
  return string.sub(text, 1, #name) == name
end

local workers = {}

-- The record of a node's worker, read once per call, or false. `state` is live, draining, gone (said bye) or lost. `members`,
-- `shown_slots` and `shown_free` are what pools and sums say of it now: only `refresh` writes them.
local function worker(node)
  local known = workers[node]
  if known ~= nil then return known end
  local v = redis.call('HMGET', base .. ':worker:' .. node, 'session', 'seq', 'state', 'slots', 'unleased', 'pools', 'warm',
    'members', 'shown_slots', 'shown_free')
  if v[1] then
    known = {
      session = v[1], seq = tonumber(v[2]), state = v[3], slots = tonumber(v[4]), unleased = tonumber(v[5]), pools = v[6],
      warm = set_of(v[7]), members = v[8], shown_slots = tonumber(v[9]), shown_free = tonumber(v[10]),
    }
  else
    known = false
  end
  workers[node] = known
  return known
end

local waiting = nil

-- Marks `pool` as waited for: the next slot that is free there is told.
local function wait_for(pool)
  local added = redis.call('SADD', base .. ':waiting', pool)
  if waiting ~= nil then waiting = waiting + added end
end

-- Tells whoever waits for `pool`, once: the mark goes with the message. Free when nobody waits for anything.
local function wake(pool)
  if waiting == nil then waiting = redis.call('SCARD', base .. ':waiting') end
  if waiting > 0 and redis.call('SREM', base .. ':waiting', pool) == 1 then
    waiting = waiting - 1
    redis.call('PUBLISH', WAKE_CHANNEL, pool)
  end
end

local sums = {}

local function add_to_sums(pool, members, slots, free)
  local sum = sums[pool]
  if not sum then
    sum = { 0, 0, 0 }
    sums[pool] = sum
  end
  sum[1], sum[2], sum[3] = sum[1] + members, sum[2] + slots, sum[3] + free
end

-- Takes a worker out of the pools that are not in `members`.
local function leave_pools(node, w, members)
  local stays = set_of(members)
  for pool in string.gmatch(w.members, '%S+') do
    add_to_sums(pool, -1, -w.shown_slots, -w.shown_free)
    if not stays[pool] then redis.call('ZREM', base .. ':pool:' .. pool, node) end
  end
end

-- Brings the pools and sums in line with what a worker is now, and wakes the pools it has a free slot for. Whatever changes a
-- worker or its leases calls this after. O(pools of the worker, log n each).
local function refresh(node)
  local w = worker(node)
  if not w then return end
  local members, free = '', 0
  if w.state == 'live' then
    members = w.pools
    free = math.max(0, w.slots - w.unleased - redis.call('SCARD', held_key(node, w.session)))
  end
  local is_member = w.members == members
  if not is_member then leave_pools(node, w, members) end
  for pool in string.gmatch(members, '%S+') do
    if is_member then
      add_to_sums(pool, 0, w.slots - w.shown_slots, free - w.shown_free)
    else
      add_to_sums(pool, 1, w.slots, free)
    end
    local score = free
    if free > 0 and w.warm[pool] then score = free + WARM end
    redis.call('ZADD', base .. ':pool:' .. pool, score, node)
    if free > 0 then wake(pool) end
  end
  local record = base .. ':worker:' .. node
  if is_member and w.shown_slots == w.slots then
    redis.call('HSET', record, 'shown_free', free)
  else
    redis.call('HSET', record, 'members', members, 'shown_slots', w.slots, 'shown_free', free)
  end
  w.members, w.shown_slots, w.shown_free = members, w.slots, free
end

-- Writes the sums that `refresh` gathered; each script that refreshes ends with it.
local function write_sums()
  for pool, sum in pairs(sums) do
    local key = base .. ':slots'
    if sum[2] ~= 0 then redis.call('HINCRBY', key, pool .. ' total', sum[2]) end
    if sum[3] ~= 0 then redis.call('HINCRBY', key, pool .. ' free', sum[3]) end
    if sum[1] ~= 0 and redis.call('HINCRBY', key, pool .. ' workers', sum[1]) == 0 then
      redis.call('HDEL', key, pool .. ' workers', pool .. ' total', pool .. ' free')
    end
  end
  sums = {}
end

local drops = { jobs = {}, by_holder = {}, nodes = {} }

-- Notes that the lease of a job on this session ends; `end_dropped` does it.
local function drop(job, node, session)
  drops.jobs[#drops.jobs + 1] = job
  drops.nodes[node] = true
  local holder = held_key(node, session)
  local held = drops.by_holder[holder]
  if held then held[#held + 1] = job else drops.by_holder[holder] = { job } end
end

-- Ends the leases noted by `drop` and frees their slots; returns how many there were.
local function end_dropped()
  local ended = call_chunked('HDEL', base .. ':leases', drops.jobs)
  call_chunked('ZREM', base .. ':expiry', drops.jobs)
  call_chunked('HDEL', base .. ':progress', drops.jobs)
  for holder, jobs in pairs(drops.by_holder) do call_chunked('SREM', holder, jobs) end
  for node in pairs(drops.nodes) do refresh(node) end
  drops = { jobs = {}, by_holder = {}, nodes = {} }
  return ended
end

-- Notes the end of every lease of one session, for `end_dropped`.
local function drop_session(node, session)
  local jobs = redis.call('SMEMBERS', held_key(node, session))
  for i = 1, #jobs do drop(jobs[i], node, session) end
end

-- For how long somebody who listens to the fleet has watched without a break; `watcher` says that this call is part of it.
-- Silence means something only while somebody listens: after a restart or an outage (of Redis, of the broker, of all
-- coordinators) nobody is lost and no lease ends until every living worker has had the time to be heard. A break is a third
-- of lost_after_ms: a shorter one costs a worker few of the heartbeats that fit in it.
local function watched_ms(is_watcher)
  local v = redis.call('HMGET', base .. ':watch', 'since', 'last')
  local since, last = tonumber(v[1] or nil), tonumber(v[2] or nil)
  if not since or now - last > LOST_AFTER_MS / 3 then since = now end
  if is_watcher then redis.call('HSET', base .. ':watch', 'since', since, 'last', now) end
  return now - since
end

