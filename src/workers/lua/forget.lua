-- Drops what is known of a session that `take-lost` reported, its leases included; a worker still alive may then come back.
-- ARGV[5] node, ARGV[6] session.
-- Returns 1, or 0 when that session is not among the lost. O(leases of the session).
-- Idempotent. A newer session of the node is left alone.
local node, session = ARGV[5], ARGV[6]
if redis.call('ZREM', base .. ':lost', node .. ' ' .. session) == 0 then return 0 end
drop_session(node, session)
end_dropped()
write_sums()
local w = worker(node)
if w and w.session == session then redis.call('DEL', base .. ':worker:' .. node) end
return 1
