-- ARGV: as in all, and streams at most, '1' if there is a request, and the request. The number of the newest event.
local owner, newest, is_finished = head_of_this()
if is_finished then
    return FINISHED
end
if owner then
    redis.call('HSET', head, 'owner', ARGV[2])
    redis.call('PEXPIRE', head, unfinished_for)
    keep_all()
    return newest
end
local most = tonumber(ARGV[11])
if redis.call('ZCARD', streams) >= most then
    for _, stream in ipairs(redis.call('ZRANGE', streams, 0, -1)) do
        if redis.call('EXISTS', heads .. stream) == 0 then
            drop(stream)
        end
    end
end
if redis.call('ZCARD', streams) >= most then
    local first = redis.call('ZRANGEBYSCORE', streams, '(0', '+inf', 'LIMIT', 0, 1)[1]
    if not first then
        return FULL
    end
    drop(first)
end
redis.call('HSET', head, 'owner', ARGV[2], 'newest', 0, 'finished', 0)
if ARGV[12] == '1' then
    redis.call('HSET', head, 'request', ARGV[13])
end
redis.call('ZADD', streams, 0, this)
redis.call('PEXPIRE', head, unfinished_for)
keep_all()
return 0
