-- Reads the hours of a rollout.
--
-- KEYS  the hours
--
-- Returns of each its fields and counts, by turns. Changes nothing.

local hours = {}
for i, key in ipairs(KEYS) do
    hours[i] = redis.call('HGETALL', key)
end
return hours
