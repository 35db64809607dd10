-- Reads a page of leases.
-- ARGV[5] cursor, ARGV[6] page size (about).
-- Returns {next cursor ('0' at the end), then per lease job, attempt, node, session, pool, ms until it ends (negative: overdue), 1 if
-- its session's held set has it}. O(page). Idempotent, reads only. A lease may come twice.
local scan = redis.call('HSCAN', base .. ':leases', ARGV[5], 'COUNT', ARGV[6])
local out = { scan[1] }
for i = 1, #scan[2], 2 do
  local job, lease = scan[2][i], parse_lease(scan[2][i + 1])
  local ends = tonumber(redis.call('ZSCORE', base .. ':expiry', job) or now)
  local is_held = redis.call('SISMEMBER', held_key(lease.node, lease.session), job)
  local row = { job, lease.attempt, lease.node, lease.session, lease.pool, ends - now, is_held }
  for _, value in ipairs(row) do out[#out + 1] = value end
end
return out
