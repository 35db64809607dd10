-- Reads a page of workers; for the audit it also counts the leases of each against what its pools show.
-- ARGV[5] cursor, ARGV[6] page size (about), ARGV[7] is_audit.
-- Returns {next cursor ('0' at the end), then per worker node, session, state, slots, unleased, pools, warm models, ms since its last
-- message, leases (size of its held set), leases found (those that name this session; only counted if is_audit), free slots shown
-- to its pools}. O(workers of the page), for the audit plus their leases. Idempotent, reads only. A worker may come twice.
local is_audit = ARGV[7] == '1'

local function count_leases(node, session)
  local held = redis.call('SMEMBERS', held_key(node, session))
  local leases = read_fields(base .. ':leases', held)
  local count = 0
  for i = 1, #held do
    local lease = leases[i] and parse_lease(leases[i])
    if lease and lease.node == node and lease.session == session then count = count + 1 end
  end
  return count
end

local scan = redis.call('ZSCAN', base .. ':beats', ARGV[5], 'COUNT', ARGV[6])
local out = { scan[1] }
for i = 1, #scan[2], 2 do
  local node, beat = scan[2][i], tonumber(scan[2][i + 1])
  local w = worker(node)
  if w then
    local leases = redis.call('SCARD', held_key(node, w.session))
    local found = is_audit and count_leases(node, w.session) or leases
    local warm = redis.call('HGET', base .. ':worker:' .. node, 'warm')
    local row = { node, w.session, w.state, w.slots, w.unleased, w.pools, warm, now - beat, leases, found, w.shown_free }
    for _, value in ipairs(row) do out[#out + 1] = value end
  end
end
return out
