-- Drops all streams of a session, whose keys are known only here (see stream.lua). KEYS: streams, sizes, oldest. ARGV: what keys of heads and of events begin with.
for _, stream in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    redis.call('UNLINK', ARGV[1] .. stream, ARGV[2] .. stream)
end
redis.call('UNLINK', unpack(KEYS))
return 1
