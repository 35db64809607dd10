-- Reads how far workers say that attempts have come.
-- ARGV[5..] job, attempt for each, at most 1,000.
-- Returns one entry per attempt: 'begun', 'streaming' (it has given a token) or '' (no heartbeat has named it yet). O(1) per attempt.
-- Idempotent, reads only.
local jobs = {}
for at = 5, #ARGV, 2 do jobs[#jobs + 1] = ARGV[at] end
local known = read_fields(base .. ':progress', jobs)
local out = {}
for i = 1, #jobs do
  local attempt, stage = string.match(known[i] or '', '^(%d+) (%a+)$')
  out[i] = attempt == ARGV[4 + i * 2] and stage or ''
end
return out
