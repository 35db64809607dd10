-- Reads the sessions of some nodes.
-- ARGV[5..] the nodes, at most 1,000.
-- Returns {age of the epoch in ms, then per node the session of its worker, live or draining, else an empty string}: both of one
-- moment, so a cell that was emptied is not taken for one whose workers are gone. O(nodes). Idempotent; the first call after Redis
-- was emptied starts the epoch.
local out = { now - redis.call('GET', base .. ':epoch') }
for at = 5, #ARGV do
  local w = worker(ARGV[at])
  local is_live = w and (w.state == 'live' or w.state == 'draining')
  out[#out + 1] = is_live and w.session or ''
end
return out
