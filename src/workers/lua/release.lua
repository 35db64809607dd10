-- Ends the leases that match and frees their slots; wakes the pools that wait for one.
-- ARGV[5..] job, attempt, node, session for each lease, at most 1,000.
-- Returns how many leases ended. O(1) per lease, O(log n) per touched worker and pool.
-- Idempotent: a lease that is not there, or is of another attempt, node or session, is left alone.
local jobs, names, released = {}, {}, {}
for at = 5, #ARGV, 4 do
  jobs[#jobs + 1] = ARGV[at]
  names[#names + 1] = ARGV[at + 1] .. ' ' .. ARGV[at + 2] .. ' ' .. ARGV[at + 3] .. ' '
  released[#released + 1] = now
  released[#released + 1] = ARGV[at] .. '.' .. ARGV[at + 1]
end

local found = read_fields(base .. ':leases', jobs)
for i = 1, #jobs do
  if found[i] and string.sub(found[i], 1, #names[i]) == names[i] then drop(jobs[i], parse_lease(found[i])) end
end
local ended = end_dropped()
write_sums()

local key = base .. ':released'
redis.call('ZREMRANGEBYSCORE', key, '-inf', now - HEARTBEAT_MS)
call_chunked('ZADD', key, released)
redis.call('PEXPIRE', key, HEARTBEAT_MS)
return ended
