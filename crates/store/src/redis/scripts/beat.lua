-- KEYS: life sign, inbox, size, taken, seen, bell. ARGV: time to live and time that a dead node's inbox is kept, in ms.
-- First what needs no memory: Redis refuses a script that writes what does, when it is full, only as its first write.
-- A node lives on then, and takes what waits for it, which frees memory.
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('SET', KEYS[1], 1, 'PX', ARGV[1])
for at = 2, #KEYS do
    redis.call('PEXPIRE', KEYS[at], ARGV[1] + ARGV[2])
end
return 1
