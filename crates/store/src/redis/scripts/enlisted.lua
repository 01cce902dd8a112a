-- The members of such a set that have not expired, or how many there are. KEYS: set. ARGV: 'count' or 'members'.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if ARGV[1] == 'count' then
    return redis.call('ZCARD', KEYS[1])
end
return redis.call('ZRANGE', KEYS[1], 0, -1)
