-- Says what the layers would let through now. Changes nothing, and decides nothing.
--
-- KEYS[1]   the clock
-- KEYS[2..] the logs
-- ARGV      the layers
--
-- Returns {1, or 0 where a log is not whole; now; each layer's {remaining, reset, denied}}

local now, life = read_clock()
local layers, logs, verdicts = read_layers(1), {}, {}
for i = 2, #KEYS do
    if not read_mark(KEYS[i], life) then
        return {0, now, {}}
    end
    logs[i - 1] = read_permits(KEYS[i], i - 1, layers, now, false)
end
for i, layer in ipairs(layers) do
    verdicts[i] = judge(layer, logs[layer.log], now)
end
return {1, now, verdicts}
