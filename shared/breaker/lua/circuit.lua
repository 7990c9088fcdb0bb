-- A circuit, which stands before each script of the breaker. Its key is a hash; one that is not there is a closed circuit of which
-- nobody remembers anything:
--   state     `closed`, `open` or `half`
--   epoch     which state this is: when it began, and higher than that of the state before, whatever the clock says
--   since     when this state began, of `half` when its probe was granted
--   probe     of `half`, the token of the probe that is under way; empty: there is none
--   paced     nobody is let through before
--   failures  of `closed`, the latest, oldest first, no more than open it: `<when>:<token> ` each
--   calls     of `closed`, where the share of failures matters, those that ended in each part of the window, oldest first:
--             `<since>:<succeeded>:<failed> ` each
--   at        when it was changed
--
-- Times are the server's TIME in milliseconds. Where that was set back, what is remembered goes with it: as if no time had passed
-- since the circuit was changed. So nothing ends later than it would have, counted from now, and none of it is forgotten.
--
-- The rules are those of src/machine.rs, and are changed in both.

-- So long a circuit is kept behind its last change, in milliseconds: several times as long as a function may run, so that no
-- call that was let through before its last state can still end when that is forgotten.
local KEEP = 3600000

local function read_time()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The entries of a list, each so much earlier.
local function earlier(entries, by)
    return (string.gsub(entries, '(%d+)(:%S+ )', function(at, rest)
        return math.max(at - by, 0) .. rest
    end))
end

local function read(key, now)
    local kept = redis.call('HMGET', key, 'state', 'epoch', 'since', 'probe', 'paced', 'failures', 'calls', 'at')
    local circuit = {
        key = key,
        now = now,
        state = kept[1] or 'closed',
        epoch = tonumber(kept[2]) or 0,
        since = tonumber(kept[3]) or 0,
        probe = kept[4] or '',
        paced = tonumber(kept[5]) or 0,
        failures = kept[6] or '',
        calls = kept[7] or '',
    }
    local set_back = (tonumber(kept[8]) or 0) - now
    if set_back > 0 then
        circuit.since = math.max(circuit.since - set_back, 0)
        circuit.paced = math.max(circuit.paced - set_back, 0)
        circuit.failures = earlier(circuit.failures, set_back)
        circuit.calls = earlier(circuit.calls, set_back)
        circuit.changed = true
    end
    return circuit
end

-- Begins another state: with it an epoch, without failures.
local function enter(circuit, state, probe)
    circuit.state, circuit.probe = state, probe
    circuit.epoch = math.max(circuit.now, circuit.epoch + 1)
    circuit.since = circuit.now
    circuit.failures, circuit.calls = '', ''
    circuit.changed = true
end

-- Writes what was changed.
local function keep(circuit)
    if circuit.changed then
        redis.call('HSET', circuit.key, 'state', circuit.state, 'epoch', circuit.epoch, 'since', circuit.since,
            'probe', circuit.probe, 'paced', circuit.paced, 'failures', circuit.failures, 'calls', circuit.calls,
            'at', circuit.now)
        redis.call('PEXPIRE', circuit.key, KEEP)
    end
end

-- As src/wire.rs reads it.
local function show(circuit)
    return {circuit.now, circuit.state, circuit.epoch, circuit.since, circuit.probe, circuit.paced, circuit.failures,
        circuit.calls}
end
