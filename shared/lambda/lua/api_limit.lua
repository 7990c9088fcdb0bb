-- Counts one request of one user against the API's own limit, over the last window, whenever that began.
--
-- KEYS[1]  the user's log, a sorted set: one member a request that was let through, its time in microseconds as member
--          and as score
-- ARGV[1]  how many requests a window lets through, 1 or more
-- ARGV[2]  the window in microseconds
--
-- Returns {1 if the request is let through, else 0;
--          how many more would be let through now;
--          microseconds until the next of those that were let through leaves the window}
--
-- A denied request is not counted. The log has at most ARGV[1] members and is gone a window after the last of them.

local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Lua itself would write so large a number as 1.7e+15.
local function text(number)
    return string.format('%.0f', number)
end

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - window))
-- Only a clock that was set back leaves times so far ahead; they would lock the user out until it is there again.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. text(now + window), '+inf')

-- Each time is later than the one before, whatever the clock does between two servers, so none is counted twice or lost.
local last = redis.call('ZRANGE', KEYS[1], -1, -1)[1]
if last then
    now = math.max(now, last + 1)
end

local count = redis.call('ZCARD', KEYS[1])
local granted = count < limit
if granted then
    redis.call('ZADD', KEYS[1], text(now), text(now))
    redis.call('PEXPIRE', KEYS[1], text(math.ceil(window / 1000)))
    count = count + 1
end

-- Where the limit was lowered, more than one has to leave before another is let through.
local next_to_leave = math.max(count - limit, 0)
local oldest = redis.call('ZRANGE', KEYS[1], next_to_leave, next_to_leave)[1]
return {granted and 1 or 0, math.max(limit - count, 0), oldest + window - now}
