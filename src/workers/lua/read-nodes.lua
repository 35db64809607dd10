-- Reads how the workers of some nodes stand, for one pool.
-- ARGV[5] pool, then the nodes, ARGV[6..], at most 1,000.
-- Returns per node: its worker's state (`none` where it has none), slots in use, slots, 1 if it offers the pool, free slots.
-- O(nodes). Idempotent, reads only.
local pool = ARGV[5]
local out = {}
for at = 6, #ARGV do
  local w = worker(ARGV[at])
  local row = { 'none', 0, 0, 0, 0 }
  if w then
    local in_use = w.unleased + redis.call('SCARD', held_key(ARGV[at], w.session))
    row = { w.state, in_use, w.slots, set_of(w.pools)[pool] and 1 or 0, math.max(0, w.slots - in_use) }
  end
  for i = 1, #row do out[#out + 1] = row[i] end
end
return out
