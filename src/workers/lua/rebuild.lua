-- Gives back the leases of attempts that PostgreSQL has open, after Redis was emptied.
-- ARGV[5..] job, attempt, node, session, pool for each, at most 1,000.
-- Returns how many leases were made. O(1) per attempt, O(log n) per touched worker and pool.
-- Idempotent: a job that has a lease keeps it; an attempt released within heartbeat_ms, or of a session that is not the worker's, is
-- passed over. A worker not yet heard of gets its leases in advance: they end by their TTL unless it speaks.
local jobs = {}
for at = 5, #ARGV, 5 do jobs[#jobs + 1] = ARGV[at] end
local found = read_fields(base .. ':leases', jobs)
local made, touched = 0, {}
for i = 1, #jobs do
  local at = i * 5
  local attempt, node, session, pool = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local w = worker(node)
  local is_released = redis.call('ZSCORE', base .. ':released', jobs[i] .. '.' .. attempt)
  if not found[i] and not is_released and (not w or w.session == session) then
    redis.call('HSET', base .. ':leases', jobs[i], attempt .. ' ' .. node .. ' ' .. session .. ' ' .. pool)
    redis.call('ZADD', base .. ':expiry', now + LEASE_TTL_MS, jobs[i])
    redis.call('SADD', held_key(node, session), jobs[i])
    -- Its last heartbeat counted this attempt as held without a lease; the next one counts anew.
    if w then w.unleased = math.max(0, w.unleased - 1) end
    touched[node] = true
    made = made + 1
  end
end
for node in pairs(touched) do
  local w = worker(node)
  if w then redis.call('HSET', base .. ':worker:' .. node, 'unleased', w.unleased) end
  refresh(node)
end
write_sums()
return made
