-- Makes all that a cell has noted older, as if so much time had passed: Redis' own clock cannot be moved.
-- KEYS[1] the base of the cell, ARGV[1] by_ms.
-- Returns 1. O(all keys of the cell). Idempotent: no, each call lets more time pass.
local base, by = KEYS[1], tonumber(ARGV[1])

-- How the keys that `src/workers/lua/shared.lua` lists note a time. A key that is not here stops the test that moves time.
local scored = { expiry = true, released = true, beats = true, lost = true }
local timeless = { open = true, worker = true, held = true, leases = true, progress = true, pool = true, slots = true, waiting = true }

local function make_older(key, name)
  if scored[name] then
    local rows = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 1, #rows, 2 do redis.call('ZADD', key, rows[i + 1] - by, rows[i]) end
  elseif name == 'watch' then
    redis.call('HINCRBY', key, 'since', -by)
    redis.call('HINCRBY', key, 'last', -by)
  elseif name == 'epoch' then
    redis.call('DECRBY', key, by)
  elseif not timeless[name] then
    error('nobody has said how time moves ' .. key)
  end
end

for _, key in ipairs(redis.call('KEYS', base .. ':*')) do
  make_older(key, string.match(string.sub(key, #base + 2), '^%a+'))
  local left = redis.call('PTTL', key)
  if left >= 0 and left <= by then redis.call('DEL', key) end
  if left > by then redis.call('PEXPIRE', key, left - by) end
end
return 1
