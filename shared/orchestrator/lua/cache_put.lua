-- Keeps a text, if there is one, and ends the flight of who made it. Another's flight goes on, so this may run twice, and late.
--
-- KEYS[1]  the value
-- KEYS[2]  its flight: the token of who makes it
-- ARGV[1]  the token of who made it
-- ARGV[2]  for how many milliseconds it is kept, 1 or more; only with a value
-- ARGV[3]  the value; none where nothing came of the flight
--
-- Returns nothing

if ARGV[3] then
    redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
end
if redis.call('GET', KEYS[2]) == ARGV[1] then
    redis.call('DEL', KEYS[2])
end
