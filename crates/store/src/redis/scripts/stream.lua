-- What all scripts about streams share. A stream is a hash with its head, a Redis stream with its events, whose
-- ids are their numbers, and a member of the session's set of streams, scored by when it was finished, or 0.
-- Times are in ms by the server's own clock.
local UNKNOWN, MOVED, FINISHED, EVICTED, FULL = -1, -2, -3, -4, -5

local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A whole number as text: Lua's own would be in exponents.
local function text(number)
    return string.format('%.0f', number)
end

-- Owner, number of the newest event and whether it is the last; nothing if there is no such stream.
local function head_of(head)
    local fields = redis.call('HMGET', head, 'owner', 'newest', 'finished')
    return fields[1], tonumber(fields[2] or 0), fields[3] == '1'
end

-- Drops events that are too old, and the oldest of those that are too many or too large.
local function shorten(head, events, max_events, max_bytes, age)
    local count = redis.call('XLEN', events)
    if count == 0 then
        redis.call('HSET', head, 'bytes', 0)
        return
    end
    local bytes = tonumber(redis.call('HGET', head, 'bytes'))
    local too_old = now() - age
    while count > 0 do
        local oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
        local at, message = tonumber(oldest[2][2]), oldest[2][4]
        local is_over = count > 1 and (count > max_events or bytes > max_bytes)
        if at > too_old and not is_over then
            break
        end
        redis.call('XDEL', events, oldest[1])
        count = count - 1
        bytes = bytes - #message
    end
    redis.call('HSET', head, 'bytes', text(bytes))
end

local function add(head, events, sequence, message)
    -- Events that expired all together have taken no bytes off.
    if redis.call('EXISTS', events) == 0 then
        redis.call('HSET', head, 'bytes', 0)
    end
    redis.call('XADD', events, text(sequence) .. '-0', 'at', text(now()), 'message', message)
    redis.call('HSET', head, 'newest', text(sequence))
    redis.call('HINCRBY', head, 'bytes', #message)
end

-- Nothing may be appended any more.
local function close(head, streams, stream)
    redis.call('HSET', head, 'finished', 1)
    redis.call('ZADD', streams, text(now()), stream)
end

-- Keeps what there is for as long as it may be asked for.
local function keep(head, events, streams, age, finished_for, unfinished_for)
    local _, _, is_finished = head_of(head)
    redis.call('PEXPIRE', head, is_finished and finished_for or unfinished_for)
    redis.call('PEXPIRE', events, is_finished and math.min(age, finished_for) or age)
    redis.call('PEXPIRE', streams, unfinished_for)
end
