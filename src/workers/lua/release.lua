-- Ends the leases that match and frees their slots; wakes the pools that wait for one.
-- ARGV[5..] job, attempt, node, session for each lease, at most 1,000.
-- Returns how many leases ended. O(1) per lease, O(log n) per touched worker and pool.
-- Idempotent: a lease that is not there, or is of another attempt, node or session, is left alone.
local jobs, released = {}, {}
for at = 5, #ARGV, 4 do
  jobs[#jobs + 1] = ARGV[at]
  released[#released + 1] = now
  released[#released + 1] = ARGV[at] .. '.' .. ARGV[at + 1]
end

local found = read_fields(base .. ':leases', jobs)
for i = 1, #jobs do
  local at = 1 + i * 4
  local attempt, node, session = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  if found[i] and is_lease_of(found[i], attempt, node, session) then drop(jobs[i], node, session) end
end
local ended = end_dropped()
write_sums()

local key = base .. ':released'
redis.call('ZREMRANGEBYSCORE', key, '-inf', now - HEARTBEAT_MS)
call_chunked('ZADD', key, released)
redis.call('PEXPIRE', key, HEARTBEAT_MS)
return ended
