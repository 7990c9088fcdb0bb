-- A log, behind the clock in each script that reads one: a sorted set of
--   <message>.<attempt>|<type>|<recipient>  a permit; its score is until when its call may reach the fan, in microseconds: at
--                                           the grant that and the hold, at the call's end the moment of that
-- and one mark, whose score is +inf:
--   !<generation>|<life>                    whole, as restored by that generation, in that life of the clock
--   ?<microseconds>|<life>                  not whole; since then who restores it has to show this
-- A log that is not whole, or whose mark is of another life, decides nothing.

-- The generation of a log that is whole, or the vacancy of one that is known not to be.
local function read_mark(key, life)
    local mark = redis.call('ZRANGE', key, -1, -1)[1] or ''
    local sign, number, of_life = string.match(mark, '^([!?])(%d+)|(.*)$')
    if of_life ~= life then
        return nil, nil
    end
    if sign == '!' then
        return tonumber(number), nil
    end
    return nil, mark
end

-- The layers from ARGV[first] on, five values each: which log, counted from 1; what it counts (`all`, those of a `type` or a
-- `recipient`, or different `recipients`); of which type or recipient, or a recipient that is no further one; its limit; its
-- window in microseconds.
local function read_layers(first)
    local layers = {}
    for i = first, #ARGV, 5 do
        table.insert(layers, {
            log = tonumber(ARGV[i]), of = ARGV[i + 1], value = ARGV[i + 2], limit = tonumber(ARGV[i + 3]),
            window = tonumber(ARGV[i + 4]),
        })
    end
    return layers
end

local function new_permit(member, until_)
    local kind, recipient = string.match(member, '^[^|]*|([^|]*)|(.*)$')
    return {until_ = until_, type = kind, recipient = recipient}
end

-- The widest window of a log's layers: of all of them, or of those that have to look at each permit. Where one is left out, as
-- if it were not there, all have to; otherwise some only count, which the server does without reading.
local function widest_window(number, layers, all)
    local widest = 0
    for _, layer in ipairs(layers) do
        if layer.log == number and (all or layer.of ~= 'all') then
            widest = math.max(widest, layer.window)
        end
    end
    return widest
end

-- Reads the permits that have to be looked at, the latest first.
local function read_permits(key, number, layers, now, left_out)
    local log = {key = key, left_out = left_out, permits = {}}
    local since = '(' .. text(now - widest_window(number, layers, left_out))
    local flat = redis.call('ZRANGE', key, '(+inf', since, 'BYSCORE', 'REV', 'WITHSCORES')
    for i = 1, #flat, 2 do
        if flat[i] ~= left_out then
            table.insert(log.permits, new_permit(flat[i], tonumber(flat[i + 1])))
        end
    end
    return log
end

-- How many permits a layer counts; until when the last of them counts that are within its limit; whether the layer's own
-- recipient is among those that are counted.
local function count(layer, log, now)
    local since = now - layer.window
    if layer.of == 'all' and not log.left_out then
        local counted = redis.call('ZCOUNT', log.key, '(' .. text(since), '(+inf')
        -- Behind the mark, the latest has the rank 1.
        local rank = math.min(counted, layer.limit)
        local last = rank > 0 and tonumber(redis.call('ZRANGE', log.key, rank, rank, 'REV', 'WITHSCORES')[2])
        return counted, last, false
    end
    local counted, last, seen = 0, false, {}
    for _, permit in ipairs(log.permits) do
        if permit.until_ <= since then
            break
        end
        local counts = layer.of == 'all' or permit[layer.of] == layer.value
        if layer.of == 'recipients' then
            counts = not seen[permit.recipient]
            seen[permit.recipient] = true
        end
        if counts then
            counted = counted + 1
            last = counted <= layer.limit and permit.until_ or last
        end
    end
    return counted, last, seen[layer.value] or false
end

-- What a layer says of its log now: {how many more it lets through; microseconds until that is one more, as soon as may be: a
-- call under way may end now; 1 where it denies another, else 0}. Where there are more than the limit, for it was lowered, all
-- but so many have to leave.
local function judge(layer, log, now)
    local counted, last, known = count(layer, log, now)
    local reset = last and math.min(last, now) + layer.window - now or 0
    return {math.max(layer.limit - counted, 0), reset, (counted >= layer.limit and not known) and 1 or 0}
end
