-- Takes note of how a call ended. What is of an older epoch changes nothing, nor does a probe that is not the current one, or a
-- failure that is counted already. So this may run twice: a rate limit then paces from the later moment on, and a success,
-- where shares matter, counts twice.
--
-- KEYS[1]  the circuit
-- ARGV[1]  the call's token
-- ARGV[2]  the epoch that it was let through in
-- ARGV[3]  1 if it is a probe
-- ARGV[4]  its end: `success`, `failure`, `limited`, `neither` or `not_made`
-- ARGV[5]  of `limited`: for how long it paces, in milliseconds
-- ARGV[6]  so many failures open a circuit
-- ARGV[7]  if they come within so many milliseconds
-- ARGV[8]  and are at least so many percent of the calls; 0: whatever their share
-- ARGV[9]  so many milliseconds of calls are counted together
--
-- Returns {the circuit; 1 if this began another state}

local token, epoch, is_probe, report, pace = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', ARGV[4], tonumber(ARGV[5])
local most, window, percent, bucket = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local now = read_time()
local circuit = read(KEYS[1], now)

-- The later of the pace that stands and the one that was told.
local function pace_calls()
    if now + pace > circuit.paced then
        circuit.paced, circuit.changed = now + pace, true
    end
end

-- Counts a call for the share of failures; gives how many failed, and how many there were.
local function count(failure)
    local parts, since, failed, all = {}, nil, 0, 0
    for from, good, bad in string.gmatch(circuit.calls, '(%d+):(%d+):(%d+) ') do
        if now < from + window then
            table.insert(parts, {tonumber(from), tonumber(good), tonumber(bad)})
            since = tonumber(from)
        end
    end
    if not since or now >= since + bucket then
        table.insert(parts, {now, 0, 0})
    end
    local counted = failure and 3 or 2
    parts[#parts][counted] = parts[#parts][counted] + 1
    circuit.calls, circuit.changed = '', true
    for _, part in ipairs(parts) do
        circuit.calls = circuit.calls .. table.concat(part, ':') .. ' '
        failed, all = failed + part[3], all + part[2] + part[3]
    end
    return failed, all
end

-- Counts a failure, once, and opens the circuit with the last that it takes.
local function fail()
    local failures = {}
    for at, counted in string.gmatch(circuit.failures, '(%d+):(%S+) ') do
        if counted == token then
            return false
        end
        if now < at + window then
            table.insert(failures, at .. ':' .. counted .. ' ')
        end
    end
    table.insert(failures, now .. ':' .. token .. ' ')
    while #failures > most do
        table.remove(failures, 1)
    end
    circuit.failures, circuit.changed = table.concat(failures), true
    local share_is_reached = true
    if percent > 0 then
        local failed, all = count(true)
        share_is_reached = failed * 100 >= all * percent
    end
    if #failures >= most and share_is_reached then
        enter(circuit, 'open', '')
        return true
    end
    return false
end

local began = false
if circuit.state == 'closed' and not is_probe and epoch >= circuit.epoch then
    -- A higher epoch is of a memory that was lost.
    if report == 'failure' then
        began = fail()
    elseif report == 'limited' then
        pace_calls()
    elseif report == 'success' and percent > 0 then
        count(false)
    end
elseif circuit.state == 'half' and circuit.probe == token and epoch == circuit.epoch then
    if report == 'failure' then
        enter(circuit, 'open', '')
        began = true
    elseif report == 'success' or report == 'neither' then
        -- A refusal proves that the service works.
        enter(circuit, 'closed', '')
        began = true
    else
        circuit.probe, circuit.changed = '', true
        if report == 'limited' then
            pace_calls()
        end
    end
end
keep(circuit)
return {show(circuit), began and 1 or 0}
