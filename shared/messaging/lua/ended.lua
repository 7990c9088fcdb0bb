-- A call has ended: from now on its permit counts for its windows only. One that has counted out before stays as it is. A permit
-- that no log has is not made: it was lost, and is restored for as long as it may count; or it was denied, and the call was only
-- watched. May run twice.
--
-- KEYS[1]   the clock
-- KEYS[2..] the logs
-- ARGV[1]   the permit's member
--
-- Returns now; 0 where the clock has begun another life, which has no log yet.

local now, life, kept = read_clock()
if not kept then
    return 0
end
keep_clock(now, life)
for i = 2, #KEYS do
    redis.call('ZADD', KEYS[i], 'XX', 'LT', text(now), ARGV[1])
end
return now
