-- Says what the layers would let through now. Changes nothing, and decides nothing.
--
-- KEYS[1]   the clock
-- KEYS[2..] the logs
-- ARGV      the layers
--
-- Returns {1, or 0 where a log is not whole; now; each layer's {remaining, reset, denied}}

local now, life = read_clock()
local logs = {}
for i = 2, #KEYS do
    logs[i - 1] = read_log(KEYS[i], life)
    if not logs[i - 1].generation then
        return {0, now, {}}
    end
end
local verdicts = {}
for i, layer in ipairs(read_layers(1)) do
    verdicts[i] = judge(layer, logs[layer.log].permits, now)
end
return {1, now, verdicts}
