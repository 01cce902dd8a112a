-- KEYS: secret. ARGV: what it is unless there is one, time to live in ms.
local kept = redis.call('GET', KEYS[1])
if kept then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return kept
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
