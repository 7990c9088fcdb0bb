-- Writes a log anew from what PostgreSQL remembers: for whoever shows the vacancy that it was found with, or a generation later
-- than the log's own. So what comes late, or comes again after the log was lost once more, changes nothing.
--
-- KEYS[1]   the clock
-- KEYS[2]   the log
-- ARGV[1]   the vacancy
-- ARGV[2]   the generation
-- ARGV[3]   how long the log is kept behind this, in milliseconds
-- ARGV[4..] permits: the member, and for how many microseconds its call has not been able to reach the fan any more (less
--           than 0: how much longer it will be)
--
-- Returns 1 if the log was written, else 0.

local vacancy, generation, keep = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local now, life = read_clock()
local marked, vacant = read_mark(KEYS[2], life)
if not (vacant and vacant == vacancy) and not (marked and marked < generation) then
    return 0
end
keep_clock(now, life)
redis.call('DEL', KEYS[2])
for i = 4, #ARGV, 2 do
    redis.call('ZADD', KEYS[2], text(now - tonumber(ARGV[i + 1])), ARGV[i])
end
redis.call('ZADD', KEYS[2], '+inf', '!' .. ARGV[2] .. '|' .. life)
redis.call('PEXPIRE', KEYS[2], keep)
return 1
