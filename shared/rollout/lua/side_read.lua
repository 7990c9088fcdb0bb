-- Reads an hour of a rollout.
--
-- KEYS[1]  the hour
--
-- Returns its fields and counts, by turns. Changes nothing.

return redis.call('HGETALL', KEYS[1])
