-- KEYS: secret. ARGV: what it is unless there is one, time to live in ms.
local kept = redis.call('GET', KEYS[1])
redis.call('SET', KEYS[1], kept or ARGV[1], 'PX', ARGV[2])
return kept or ARGV[1]
