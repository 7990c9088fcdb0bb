-- Decides whether a call is made. The same token asking again gets the same probe: so this may run twice. Who is let through by a
-- closed circuit, and who is not let through, changes nothing.
--
-- KEYS[1]  the circuit
-- ARGV[1]  the call's token
-- ARGV[2]  for how long a circuit is open, in milliseconds
-- ARGV[3]  a probe's lease, in milliseconds
--
-- Returns {the circuit; `granted`, `open` or `paced`; milliseconds until it is worth asking again, 0 where granted}

local token, open_for, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = read_time()
local circuit = read(KEYS[1], now)

local free_at = 0
if circuit.state == 'open' then
    free_at = circuit.since + open_for
elseif circuit.probe ~= '' then
    free_at = circuit.since + lease
end

local decision, wait = 'granted', 0
local again = circuit.probe == token and now < free_at
if not again then
    if now < free_at then
        decision, wait = 'open', math.max(free_at, circuit.paced) - now
    elseif now < circuit.paced then
        decision, wait = 'paced', circuit.paced - now
    elseif circuit.state ~= 'closed' then
        enter(circuit, 'half', token)
    end
end
keep(circuit)
return {show(circuit), decision, wait}
