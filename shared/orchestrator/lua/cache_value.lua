-- What the scripts of the cache share. A value is `<for how many milliseconds it was kept>:<JSON>`, and expires after them: its age is
-- what is gone of that time, by this server's clock alone.

-- The JSON of a value that is younger than so many milliseconds and has no more than so many bytes; false where there is none.
local function read_value(key, milliseconds, bytes)
    if redis.call('STRLEN', key) > bytes then
        return false
    end
    local kept, json = string.match(redis.call('GET', key) or '', '^(%d+):(.*)$')
    local left = redis.call('PTTL', key)
    -- One that never expires was not written by us.
    if not kept or left < 0 then
        return false
    end
    return tonumber(kept) - left < milliseconds and json
end
