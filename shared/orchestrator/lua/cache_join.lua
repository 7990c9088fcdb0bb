-- Gives a text that is fresh, or says who makes it: one at a time, until it is there, given up, or a lease is over. Who leads already
-- leads on, for a lease from now: so this may run twice.
--
-- KEYS[1]  the value
-- KEYS[2]  its flight: the token of who makes it
-- ARGV[1]  how old it may be: no value of this age or older is given, in milliseconds
-- ARGV[2]  how many bytes it may have
-- ARGV[3]  the token of who asks
-- ARGV[4]  the lease in milliseconds, 1 or more
--
-- Returns {'hit', its JSON, 0}, {'lead', nil, 0}, or {'wait', nil, milliseconds that are left of another's lease}

local json = read_value(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]))
if json then
    return {'hit', json, 0}
end
local leader = redis.call('GET', KEYS[2])
if leader and leader ~= ARGV[3] then
    return {'wait', false, math.max(redis.call('PTTL', KEYS[2]), 0)}
end
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
return {'lead', false, 0}
