-- Ends leases that no heartbeat has extended in time and frees their slots; wakes the pools that wait for one.
-- ARGV[5] limit, the most leases to end.
-- Returns how many leases ended: 0 while nobody has asked for the lost for lost_after_ms without a break. O(limit).
-- Idempotent.
if watched_ms(false) < LOST_AFTER_MS then return 0 end
local jobs = redis.call('ZRANGEBYSCORE', base .. ':expiry', '-inf', now, 'LIMIT', 0, ARGV[5])
local found = read_fields(base .. ':leases', jobs)
for i = 1, #jobs do
  if found[i] then
    local lease = parse_lease(found[i])
    drop(jobs[i], lease.node, lease.session)
  else
    redis.call('ZREM', base .. ':expiry', jobs[i])
  end
end
local ended = end_dropped()
write_sums()
return ended
