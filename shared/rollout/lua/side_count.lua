-- Counts one request on its side of a rollout.
--
-- KEYS[1]  the rollout's hour, a hash: <minute>:<side>:<kind> -> count
-- ARGV[1]  seconds that the hour is kept for
-- ARGV[2..] fields and what each is raised by, by turns
--
-- Returns 1. Run twice it counts twice: one request more or less changes no verdict.

for i = 2, #ARGV, 2 do
    redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
