-- Opens a cell for new jobs, once it was given back what PostgreSQL has open; wakes the pools that wait.
-- ARGV[5] epoch, as `read-state` answered it before PostgreSQL was read.
-- Returns 1, or 0 when Redis was emptied again since: it must be given back once more. O(pools that wait).
-- Idempotent.
if redis.call('GET', base .. ':epoch') ~= ARGV[5] then return 0 end
if redis.call('SETNX', base .. ':open', ARGV[5]) == 1 then
  for _, pool in ipairs(redis.call('SMEMBERS', base .. ':waiting')) do wake(pool) end
end
return 1
