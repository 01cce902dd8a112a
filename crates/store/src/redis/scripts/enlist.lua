-- Enters a member into a set that is scored by when its members expire, and drops those that have. It is the
-- server's own clock that counts. KEYS: set. ARGV: member, time to live in ms, 'XX' to prolong only what is there.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expires = string.format('%.0f', now + ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if ARGV[3] == 'XX' then
    redis.call('ZADD', KEYS[1], 'XX', 'GT', expires, ARGV[1])
else
    redis.call('ZADD', KEYS[1], expires, ARGV[1])
end
local left = redis.call('PTTL', KEYS[1])
if left ~= -2 and left < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
