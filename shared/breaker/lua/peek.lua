-- Shows circuits. Changes nothing, and grants nothing.
--
-- KEYS  the circuits
--
-- Returns each circuit

local now, shown = read_time(), {}
for i, key in ipairs(KEYS) do
    shown[i] = show(read(key, now))
end
return shown
