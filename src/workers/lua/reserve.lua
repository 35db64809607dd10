-- Takes a slot for each attempt of a batch, in order, on the best worker of its pool: warm first, then most free slots.
-- ARGV[5] may_place (1: take slots; 0: only look for leases that stand), then job, attempt, pool, nodes not to be asked (separated by
-- blanks, mostly none) for each request, at most 1,000.
-- Returns one entry per request: "<got|had> <node> <session> <is_warm> <slots_free before> <workers_free>", or -1 full, -2 no worker
-- in the pool, -3 no worker in the pool but those not to be asked, 0 no lease here (only when may_place is 0). A pool that answers
-- -1 or -2 is marked as waiting. Until `open` was called all are full: what workers hold may not be known yet.
-- O(log n) per request, n the workers of a pool: a heap over the best workers fetched so far; one write per touched worker and pool.
-- A request with nodes not to be asked looks at the pool's workers one by one, best first: O(n) at worst, and rare.
-- Idempotent: a live lease of the same attempt, or of a later one, is answered as `had`, takes nothing and lives on; a lease of an
-- earlier attempt, or on a worker that takes no new jobs, is ended first and its slot is free again.
local may_place = ARGV[5] == '1'
local count = (#ARGV - 5) / 4
local jobs, attempts, pool_of, tried_by, wanted = {}, {}, {}, {}, {}
for i = 1, count do
  local at = 2 + i * 4
  local pool = ARGV[at + 2]
  jobs[i], attempts[i], pool_of[i] = ARGV[at], tonumber(ARGV[at + 1]), pool
  if ARGV[at + 3] ~= '' then tried_by[i] = set_of(ARGV[at + 3]) end
  wanted[pool] = (wanted[pool] or 0) + 1
end
local out = {}

local workers_free = {}
local function answer(kind, pool, node, slots_free)
  local key = base .. ':pool:' .. pool
  workers_free[pool] = workers_free[pool] or redis.call('ZCOUNT', key, 1, '+inf')
  local w = worker(node)
  local is_warm = w.warm[pool] and 1 or 0
  return kind .. ' ' .. node .. ' ' .. w.session .. ' ' .. is_warm .. ' ' .. slots_free .. ' ' .. workers_free[pool]
end

-- 1. Leases that stand.
local found = read_fields(base .. ':leases', jobs)
local extended = {}
for i = 1, count do
  local lease = found[i] and parse_lease(found[i])
  if lease then
    local w = worker(lease.node)
    if lease.attempt >= attempts[i] and w and w.state == 'live' and w.session == lease.session then
      out[i] = answer('had', lease.pool, lease.node, w.shown_free + 1)
      extended[#extended + 1] = now + LEASE_TTL_MS
      extended[#extended + 1] = jobs[i]
    else
      drop(jobs[i], lease.node, lease.session)
    end
  end
end
call_chunked('ZADD', base .. ':expiry', extended)
end_dropped()

-- 2. Free slots. A worker serves several pools: `free` is its one number, and an entry in a heap may be older than it.
local free = {}
local pools = {}

local function open(pool)
  local p = { key = base .. ':pool:' .. pool, nodes = {}, scores = {}, fetched = 0, is_done = false, bound = math.huge }
  p.page = wanted[pool]
  pools[pool] = p
  return p
end

local function rise(p, node, score)
  local i = #p.nodes + 1
  while i > 1 do
    local parent = math.floor(i / 2)
    if p.scores[parent] >= score then break end
    p.scores[i], p.nodes[i] = p.scores[parent], p.nodes[parent]
    i = parent
  end
  p.scores[i], p.nodes[i] = score, node
end

-- Gives the head a lower score and lets it sink.
local function sink(p, score)
  local node, i, size = p.nodes[1], 1, #p.nodes
  while true do
    local child = i * 2
    if child > size then break end
    if child < size and p.scores[child + 1] > p.scores[child] then child = child + 1 end
    if p.scores[child] <= score then break end
    p.scores[i], p.nodes[i] = p.scores[child], p.nodes[child]
    i = child
  end
  p.scores[i], p.nodes[i] = score, node
end

-- Fetches the next best workers; nobody still unfetched has a score above `bound`.
local function fetch(p)
  local rows = redis.call('ZREVRANGE', p.key, p.fetched, p.fetched + p.page - 1, 'WITHSCORES')
  p.fetched = p.fetched + #rows / 2
  p.is_done = #rows / 2 < p.page
  for j = 1, #rows, 2 do
    local node, score = rows[j], tonumber(rows[j + 1])
    if score == 0 then
      p.is_done = true
      return
    end
    free[node] = free[node] or score % WARM
    p.bound = score
    rise(p, node, score)
  end
end

-- The best worker of a pool that has a free slot, or nil.
local function best(p)
  while true do
    local node, score = p.nodes[1], p.scores[1] or 0
    local current = 0
    if score > 0 and free[node] > 0 then current = free[node] + (score > WARM and WARM or 0) end
    if current < score then
      sink(p, current)
    elseif score > 0 and (score >= p.bound or p.is_done) then
      return node
    elseif p.is_done then
      return nil
    else
      fetch(p)
    end
  end
end

-- The best worker of a pool with a free slot that is not among `tried`; else nil, and whether there is one at all.
local function best_untried(pool, tried)
  local key, page, has_other = base .. ':pool:' .. pool, 100, false
  for first = 0, redis.call('ZCARD', key) - 1, page do
    local rows = redis.call('ZREVRANGE', key, first, first + page - 1, 'WITHSCORES')
    for j = 1, #rows, 2 do
      local node = rows[j]
      if not tried[node] then
        has_other = true
        free[node] = free[node] or tonumber(rows[j + 1]) % WARM
        if free[node] > 0 then return node, true end
      end
    end
  end
  return nil, has_other
end

local is_open = redis.call('EXISTS', base .. ':open') == 1
local leases, ends, taken = {}, {}, {}
for i = 1, count do
  if not out[i] and may_place and not is_open then
    wait_for(pool_of[i])
    out[i] = -1
  elseif not out[i] and may_place then
    local pool = pool_of[i]
    local p = pools[pool] or open(pool)
    local node, has_other = nil, true
    if tried_by[i] then
      node, has_other = best_untried(pool, tried_by[i])
    else
      node = best(p)
    end
    if node then
      local w = worker(node)
      out[i] = answer('got', pool, node, free[node])
      free[node] = free[node] - 1
      leases[#leases + 1] = jobs[i]
      leases[#leases + 1] = attempts[i] .. ' ' .. node .. ' ' .. w.session .. ' ' .. pool
      ends[#ends + 1] = now + LEASE_TTL_MS
      ends[#ends + 1] = jobs[i]
      local held = taken[node]
      if held then held[#held + 1] = jobs[i] else taken[node] = { jobs[i] } end
    elseif has_other or redis.call('EXISTS', p.key) == 0 then
      wait_for(pool)
      out[i] = redis.call('EXISTS', p.key) == 1 and -1 or -2
    else
      out[i] = -3
    end
  end
  out[i] = out[i] or 0
end

call_chunked('HSET', base .. ':leases', leases)
call_chunked('ZADD', base .. ':expiry', ends)
for node, held in pairs(taken) do
  call_chunked('SADD', held_key(node, worker(node).session), held)
  refresh(node)
end
write_sums()
return out
