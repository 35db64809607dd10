-- Counts one more try of a message that may have killed a coordinator, or forgets it.
-- ARGV[5] queue, ARGV[6] digest, ARGV[7] "count" or "clear", ARGV[8] ttl_ms.
-- Returns the number of tries so far, 0 when cleared. O(1).
-- Idempotent: clear yes; count no, a repeat counts again, which only makes the verdict come earlier.
local key = base .. ':suspect:' .. ARGV[5] .. ':' .. ARGV[6]
if ARGV[7] == 'clear' then
  redis.call('DEL', key)
  return 0
end
local tries = redis.call('INCR', key)
redis.call('PEXPIRE', key, ARGV[8])
return tries
