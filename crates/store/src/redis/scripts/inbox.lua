-- What scripts about an inbox share. What waits is in the list `inbox`. What was taken moves to the list `taken` and
-- stays there until the node says that it has got it, so that nothing is lost with an answer; it counts what it has
-- got since it began, and `seen` is that count as far as `taken` goes. `size` is of both lists in bytes. `bell` has
-- an element when there is something to take, for the node to wait for.
local alive, inbox, size, taken, seen, bell = unpack(KEYS)

local function waiting()
    return redis.call('LLEN', inbox) + redis.call('LLEN', taken)
end

-- Where nothing waits the size is nothing, whatever it was counted to.
local function bytes()
    return waiting() == 0 and 0 or tonumber(redis.call('GET', size) or 0)
end

local function resize(bytes, kept)
    redis.call('SET', size, string.format('%.0f', math.max(0, bytes)), 'PX', kept)
end

-- How long all this is kept: as long as the node is alive, and some time after.
local function kept(after_death)
    return math.max(0, redis.call('PTTL', alive)) + after_death
end
