-- The limiter's clock, which stands before each of its scripts. KEYS[1] is where it is kept, a hash:
--   life  a server's run, and when its clock began: `<run id>@<microseconds>`
--   at    the latest time of this life, in microseconds
--
-- It is the server's TIME, each later than the one before. Where that was set back by a little, it goes on from the latest
-- time, a microsecond at a time, until TIME is there again: no window is shortened. A life ends, and with it the memory of
-- every log, where TIME was set back by more, where the hash is gone, and where another server runs or the same one was
-- started again: what that remembers may be older than what was granted.

-- How far TIME may fall behind, in microseconds: so long the clock stands still.
local SLACK = 5000000

-- Lua itself would write so large a number as 1.7e+15.
local function text(number)
    return string.format('%.0f', number)
end

-- Now, the life, and whether that is the one that was kept.
local function read_clock()
    local time = redis.call('TIME')
    local now = time[1] * 1000000 + time[2]
    local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
    local life, at = unpack(redis.call('HMGET', KEYS[1], 'life', 'at'))
    at = tonumber(at)
    if life and at and string.sub(life, 1, #run) == run and now > at - SLACK then
        return math.max(now, at + 1), life, true
    end
    return now, run .. '@' .. text(now), false
end

local function keep_clock(now, life)
    redis.call('HSET', KEYS[1], 'life', life, 'at', text(now))
end
