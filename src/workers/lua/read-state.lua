-- Reads how a cell stands.
-- Returns {epoch_ms, age of the epoch in ms, 1 if `open` was called, then pool, workers, total slots, free slots for each pool}. O(pools).
-- Idempotent; the first call after Redis was emptied starts the epoch.
local epoch = redis.call('GET', base .. ':epoch')
local out = { epoch, now - epoch, redis.call('EXISTS', base .. ':open') }
local sums_read = redis.call('HGETALL', base .. ':slots')
local by_pool = {}
for i = 1, #sums_read, 2 do
  local pool, what = string.match(sums_read[i], '^(%S+) (%a+)$')
  by_pool[pool] = by_pool[pool] or { workers = 0, total = 0, free = 0 }
  by_pool[pool][what] = tonumber(sums_read[i + 1])
end
for pool, sum in pairs(by_pool) do
  out[#out + 1], out[#out + 2], out[#out + 3], out[#out + 4] = pool, sum.workers, sum.total, sum.free
end
return out
