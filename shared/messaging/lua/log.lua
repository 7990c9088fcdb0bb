-- A log, behind the clock in each script that reads one: a sorted set of
--   <message>.<attempt>|<type>|<recipient>  a permit; its score is until when its call may reach the fan, in microseconds: at
--                                           the grant that and the hold, at the call's end the moment of that
--   !<generation>|<life>                    score +inf: whole, as restored by that generation, in that life of the clock
--   ?<microseconds>|<life>                  score +inf: not whole; since then who restores it has to show this
-- A log that is not whole decides nothing.

-- permits: oldest first, but for that of `own`, a member. generation: of a log that is whole. vacancy: of one that is known not to be.
local function read_log(key, life, own)
    local log = {permits = {}, repeated = false}
    local flat = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 1, #flat, 2 do
        local member = flat[i]
        local mark, number, of_life = string.match(member, '^([!?])(%d+)|(.*)$')
        if mark then
            if of_life == life and mark == '!' then
                log.generation = tonumber(number)
            elseif of_life == life then
                log.vacancy = member
            end
        elseif member == own then
            log.repeated = true
        else
            local kind, recipient = string.match(member, '^[^|]*|([^|]*)|(.*)$')
            table.insert(log.permits, {until_ = tonumber(flat[i + 1]), type = kind, recipient = recipient})
        end
    end
    return log
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

-- What a layer says of its log now: {how many more it lets through; microseconds until that is one more, as soon as may be: a
-- call under way may end now; 1 where it denies another, else 0}.
local function judge(layer, permits, now)
    local count, next_to_leave, seen = 0, nil, {}
    for i = #permits, 1, -1 do
        local permit = permits[i]
        if permit.until_ <= now - layer.window then
            break
        end
        local counts
        if layer.of == 'recipients' then
            counts = not seen[permit.recipient]
            seen[permit.recipient] = true
        else
            counts = layer.of == 'all' or permit[layer.of] == layer.value
        end
        if counts then
            count = count + 1
            -- Where there are more than the limit, for it was lowered, more than one has to leave.
            if count <= layer.limit then
                next_to_leave = permit.until_
            end
        end
    end
    local reset = next_to_leave and math.min(next_to_leave, now) + layer.window - now or 0
    local denied = count >= layer.limit and not (layer.of == 'recipients' and seen[layer.value])
    return {math.max(layer.limit - count, 0), reset, denied and 1 or 0}
end
