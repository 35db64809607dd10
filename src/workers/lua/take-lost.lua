-- Takes workers that have been silent for lost_after_ms out of their pools; says which sessions are to be ended.
-- ARGV[5] limit, the most to give up in this call and the most to report.
-- Returns {node, session, …} of sessions that were lost, left with leases, or gave way to a newer one, oldest first, each until
-- `forget`: none while this has not been called for lost_after_ms without a break. O(limit × pools, log n each).
-- Idempotent. A lost session is not served again before it is forgotten: its open attempts are about to be ended.
if watched_ms(true) < LOST_AFTER_MS then return {} end
local silent = redis.call('ZRANGEBYSCORE', base .. ':beats', '-inf', now - LOST_AFTER_MS, 'LIMIT', 0, ARGV[5])
for _, node in ipairs(silent) do
  local w = worker(node)
  redis.call('ZREM', base .. ':beats', node)
  if w and w.state == 'gone' and redis.call('EXISTS', held_key(node, w.session)) == 0 then
    redis.call('DEL', base .. ':worker:' .. node)
  elseif w then
    w.state = 'lost'
    redis.call('HSET', base .. ':worker:' .. node, 'state', 'lost')
    redis.call('ZADD', base .. ':lost', 'NX', now, node .. ' ' .. w.session)
    refresh(node)
  end
end
write_sums()

local out = {}
for _, name in ipairs(redis.call('ZRANGE', base .. ':lost', 0, ARGV[5] - 1)) do
  for _, part in ipairs(words(name)) do out[#out + 1] = part end
end
return out
