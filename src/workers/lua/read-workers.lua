-- Reads a page of workers, and counts the leases of each against what its pools show.
-- ARGV[5] cursor, ARGV[6] page size (about).
-- Returns {next cursor ('0' at the end), then per worker node, session, state, slots, unleased, pools, warm models, ms since its last
-- message, leases (size of its held set), leases found (those that name this session), free slots shown to its pools}.
-- O(workers of the page + their leases). Idempotent, reads only. A worker may come twice.
local scan = redis.call('ZSCAN', base .. ':beats', ARGV[5], 'COUNT', ARGV[6])
local out = { scan[1] }
for i = 1, #scan[2], 2 do
  local node, beat = scan[2][i], tonumber(scan[2][i + 1])
  local w = worker(node)
  local held = redis.call('SMEMBERS', held_key(node, w.session))
  local leases = read_fields(base .. ':leases', held)
  local leases_found = 0
  for j = 1, #held do
    local lease = leases[j] and parse_lease(leases[j])
    if lease and lease.node == node and lease.session == w.session then leases_found = leases_found + 1 end
  end
  local warm = redis.call('HGET', base .. ':worker:' .. node, 'warm')
  local row = { node, w.session, w.state, w.slots, w.unleased, w.pools, warm, now - beat, #held, leases_found, w.shown_free }
  for _, value in ipairs(row) do out[#out + 1] = value end
end
return out
