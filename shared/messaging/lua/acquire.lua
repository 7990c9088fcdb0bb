-- Grants a permit to one attempt of one message if every layer has room for it, or changes nothing but the clock. An attempt
-- that has one already is judged as though it had none, and keeps it for the longer: so this may run twice.
--
-- KEYS[1]   the clock
-- KEYS[2..] the logs
-- ARGV[1]   the permit's member
-- ARGV[2]   for how long its call may reach the fan, in microseconds
-- ARGV[3]   how long a log is kept behind its last grant, in milliseconds: longer than any window and hold
-- ARGV[4..] for each log the generation that PostgreSQL does not take any more, 0 where it has taken every one; then the layers
--
-- Returns {1 granted, 0 denied, -1 nothing decided because a log is not whole; now; 1 where the attempt had a permit;
--          each log's generation (whole only); each log's vacancy (empty where whole); each layer's {remaining, reset, denied}}

local member, hold, keep = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local now, life = read_clock()
keep_clock(now, life)

local logs, generations, vacancies, whole, repeated = {}, {}, {}, true, false
for i = 2, #KEYS do
    local log = read_log(KEYS[i], life, member)
    if log.generation and log.generation > tonumber(ARGV[i + 2]) then
        vacancies[i - 1] = ''
    else
        whole = false
        if not log.vacancy then
            log.vacancy = '?' .. text(now) .. '|' .. life
            redis.call('DEL', KEYS[i])
            redis.call('ZADD', KEYS[i], '+inf', log.vacancy)
            redis.call('PEXPIRE', KEYS[i], keep)
        end
        vacancies[i - 1] = log.vacancy
    end
    logs[i - 1], generations[i - 1] = log, log.generation or 0
    repeated = repeated or log.repeated
end
if not whole then
    return {-1, now, 0, generations, vacancies, {}}
end

local layers = read_layers(3 + #KEYS)
local function judge_all()
    local verdicts = {}
    for i, layer in ipairs(layers) do
        verdicts[i] = judge(layer, logs[layer.log].permits, now)
    end
    return verdicts
end

local verdicts, granted = judge_all(), true
for _, verdict in ipairs(verdicts) do
    granted = granted and verdict[3] == 0
end
if granted then
    local kind, recipient = string.match(member, '^[^|]*|([^|]*)|(.*)$')
    for i, log in ipairs(logs) do
        local longest = 0
        for _, layer in ipairs(layers) do
            longest = layer.log == i and math.max(longest, layer.window) or longest
        end
        redis.call('ZREMRANGEBYSCORE', KEYS[i + 1], '-inf', text(now - longest))
        redis.call('ZADD', KEYS[i + 1], 'GT', text(now + hold), member)
        redis.call('PEXPIRE', KEYS[i + 1], keep)
        table.insert(log.permits, {until_ = now + hold, type = kind, recipient = recipient})
    end
    -- What is left behind it; it is not denied itself where that is nothing.
    verdicts = judge_all()
    for _, verdict in ipairs(verdicts) do
        verdict[3] = 0
    end
end
return {granted and 1 or 0, now, repeated and 1 or 0, generations, vacancies, verdicts}
