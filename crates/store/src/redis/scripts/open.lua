-- KEYS: head, events, streams. ARGV: stream, owner, '1' if there is a request, request, what keys of heads and of
-- events begin with, streams at most, how long an unfinished one is kept. The number of the newest event.
local head, streams = KEYS[1], KEYS[3]
local owner, newest, is_finished = head_of(head)
if is_finished then
    return FINISHED
end
if owner then
    redis.call('HSET', head, 'owner', ARGV[2])
    redis.call('PEXPIRE', head, ARGV[8])
    redis.call('PEXPIRE', streams, ARGV[8])
    return newest
end
if redis.call('ZCARD', streams) >= tonumber(ARGV[7]) then
    for _, stream in ipairs(redis.call('ZRANGE', streams, 0, -1)) do
        if redis.call('EXISTS', ARGV[5] .. stream) == 0 then
            redis.call('ZREM', streams, stream)
        end
    end
end
if redis.call('ZCARD', streams) >= tonumber(ARGV[7]) then
    local oldest = redis.call('ZRANGEBYSCORE', streams, '(0', '+inf', 'LIMIT', 0, 1)[1]
    if not oldest then
        return FULL
    end
    redis.call('UNLINK', ARGV[5] .. oldest, ARGV[6] .. oldest)
    redis.call('ZREM', streams, oldest)
end
redis.call('HSET', head, 'owner', ARGV[2], 'newest', 0, 'bytes', 0, 'finished', 0)
if ARGV[3] == '1' then
    redis.call('HSET', head, 'request', ARGV[4])
end
redis.call('ZADD', streams, 0, ARGV[1])
redis.call('PEXPIRE', head, ARGV[8])
redis.call('PEXPIRE', streams, ARGV[8])
return 0
