-- What all scripts about streams share. A stream is a hash with its head, a Redis stream with its events, whose
-- ids are their numbers, and a member of the session's set of streams, scored by when it was finished, or 0. Of
-- streams that have events `sizes` has the bytes, and those of all of them together, and `oldest` is a set, scored by
-- when the oldest event of each came. Times are in ms by the server's own clock.
-- Scripts about one stream also use heads and events of others of the session, which are known only when they run, and are
-- not in KEYS. All have one hash tag, so that Redis and Valkey allow it, in a cluster too; docs/src/nodes.md says so.
-- KEYS: head, events, streams, sizes, oldest. ARGV: stream, owner, events at most, bytes at most, age, how long a
-- finished and an unfinished stream is kept, bytes of the session at most, what keys of heads and of events begin
-- with, and what each script says.
local UNKNOWN, MOVED, FINISHED, EVICTED, FULL = -1, -2, -3, -4, -5
local head, events, streams, sizes, oldest = unpack(KEYS)
local this, max_events, max_bytes = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local age, finished_for, unfinished_for = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local session_bytes, heads, histories = tonumber(ARGV[8]), ARGV[9], ARGV[10]

local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A whole number as text: Lua's own would be in exponents.
local function text(number)
    return string.format('%.0f', number)
end

-- Owner, number of the newest event and whether it is the last; nothing if there is no such stream.
local function head_of_this()
    local fields = redis.call('HMGET', head, 'owner', 'newest', 'finished')
    return fields[1], tonumber(fields[2] or 0), fields[3] == '1'
end

-- Bytes of a stream, or of `all`.
local function bytes_of(stream)
    return tonumber(redis.call('HGET', sizes, stream) or 0)
end

-- Notes how large a stream is, and since when it keeps events; 0 and nothing if it has none.
local function resize(stream, bytes, since)
    local grown = bytes - bytes_of(stream)
    if grown ~= 0 then
        redis.call('HINCRBY', sizes, 'all', text(grown))
    end
    if since then
        redis.call('HSET', sizes, stream, text(bytes))
        redis.call('ZADD', oldest, text(since), stream)
    elseif redis.call('HDEL', sizes, stream) == 1 then
        redis.call('ZREM', oldest, stream)
    end
end

-- Forgets a stream.
local function drop(stream)
    redis.call('UNLINK', heads .. stream, histories .. stream)
    redis.call('ZREM', streams, stream)
    resize(stream, 0)
end

-- The oldest event of a stream: its id, when it came, and its message.
local function first_of(stream)
    local first = redis.call('XRANGE', histories .. stream, '-', '+', 'COUNT', 1)[1]
    if first then
        return first[1], tonumber(first[2][2]), first[2][4]
    end
end

-- Drops events of a stream that are too old, and the oldest of those that are too many or too large.
local function shorten(stream)
    local count, bytes = redis.call('XLEN', histories .. stream), bytes_of(stream)
    local too_old = now() - age
    local id, at, message = first_of(stream)
    while id do
        local is_over = count > 1 and (count > max_events or bytes > max_bytes)
        if at > too_old and not is_over then
            break
        end
        redis.call('XDEL', histories .. stream, id)
        count, bytes = count - 1, bytes - #message
        id, at, message = first_of(stream)
    end
    resize(stream, id and bytes or 0, at)
end

-- Drops what has had its time, of all streams of the session: it takes no room from what has not.
local function drop_old()
    local time = now()
    for _, stream in ipairs(redis.call('ZRANGEBYSCORE', streams, '(0', text(time - finished_for))) do
        drop(stream)
    end
    for _, stream in ipairs(redis.call('ZRANGEBYSCORE', oldest, '-inf', text(time - age))) do
        shorten(stream)
    end
end

-- Drops the oldest events of the session until the rest fits, but not the newest of this stream.
local function fit()
    while bytes_of('all') > session_bytes do
        local found
        for _, stream in ipairs(redis.call('ZRANGE', oldest, 0, 1)) do
            if not found and (stream ~= this or redis.call('XLEN', events) > 1) then
                found = stream
            end
        end
        if not found then
            return
        end
        local id, _, message = first_of(found)
        if id then
            redis.call('XDEL', histories .. found, id)
        end
        local _, since = first_of(found)
        resize(found, since and bytes_of(found) - #message or 0, since)
    end
end

local function add(sequence, message)
    -- Events that expired all together have taken no bytes off.
    if redis.call('EXISTS', events) == 0 then
        resize(this, 0)
    end
    redis.call('XADD', events, text(sequence) .. '-0', 'at', text(now()), 'message', message)
    redis.call('HSET', head, 'newest', text(sequence))
    redis.call('HINCRBY', sizes, this, #message)
    redis.call('HINCRBY', sizes, 'all', #message)
end

-- Nothing may be appended any more.
local function close()
    redis.call('HSET', head, 'finished', 1)
    redis.call('ZADD', streams, text(now()), this)
end

-- Keeps what is known of all streams for as long as any of them may be asked for.
local function keep_all()
    for _, key in ipairs({ streams, sizes, oldest }) do
        redis.call('PEXPIRE', key, math.max(age, finished_for, unfinished_for))
    end
end

-- Keeps this stream for as long as it may be asked for.
local function keep()
    local _, _, is_finished = head_of_this()
    redis.call('PEXPIRE', head, is_finished and finished_for or unfinished_for)
    redis.call('PEXPIRE', events, is_finished and math.min(age, finished_for) or age)
    keep_all()
end
