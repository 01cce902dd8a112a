-- KEYS: life sign, inbox, size, taken, seen, bell. ARGV: time to live and time that a dead node's inbox is kept, in ms.
redis.call('SET', KEYS[1], 1, 'PX', ARGV[1])
for at = 2, #KEYS do
    redis.call('PEXPIRE', KEYS[at], ARGV[1] + ARGV[2])
end
return 1
