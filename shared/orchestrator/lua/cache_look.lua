-- Gives a text that is kept. Changes nothing.
--
-- KEYS[1]  the value
-- ARGV[1]  how old it may be: no value of this age or older is given, in milliseconds
-- ARGV[2]  how many bytes it may have
--
-- Returns its JSON, or nil

return read_value(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]))
