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

local generations, vacancies, whole = {}, {}, true
for i = 2, #KEYS do
    local generation, vacancy = read_mark(KEYS[i], life)
    if generation and generation > tonumber(ARGV[i + 2]) then
        vacancy = ''
    else
        whole = false
        if not vacancy then
            vacancy = '?' .. text(now) .. '|' .. life
            redis.call('DEL', KEYS[i])
            redis.call('ZADD', KEYS[i], '+inf', vacancy)
            redis.call('PEXPIRE', KEYS[i], keep)
        end
    end
    generations[i - 1], vacancies[i - 1] = generation or 0, vacancy
end
if not whole then
    return {-1, now, 0, generations, vacancies, {}}
end

local layers, logs, windows, repeated = read_layers(3 + #KEYS), {}, {}, false
for i = 2, #KEYS do
    local window, before = widest_window(i - 1, layers, true), redis.call('ZSCORE', KEYS[i], member)
    -- One that has counted out is none.
    local held = before and tonumber(before) > now - window
    logs[i - 1] = read_permits(KEYS[i], i - 1, layers, now, held and member)
    windows[i - 1], repeated = window, repeated or held
end
local function judge_all()
    local verdicts = {}
    for i, layer in ipairs(layers) do
        verdicts[i] = judge(layer, logs[layer.log], now)
    end
    return verdicts
end

local verdicts, granted = judge_all(), true
for _, verdict in ipairs(verdicts) do
    granted = granted and verdict[3] == 0
end
if granted then
    for i, log in ipairs(logs) do
        redis.call('ZREMRANGEBYSCORE', log.key, '-inf', text(now - windows[i]))
        redis.call('ZADD', log.key, 'GT', text(now + hold), member)
        redis.call('PEXPIRE', log.key, keep)
        table.insert(log.permits, 1, new_permit(member, now + hold))
        log.left_out = false
    end
    -- What is left behind it; it is not denied itself where that is nothing.
    verdicts = judge_all()
    for _, verdict in ipairs(verdicts) do
        verdict[3] = 0
    end
end
return {granted and 1 or 0, now, repeated and 1 or 0, generations, vacancies, verdicts}
