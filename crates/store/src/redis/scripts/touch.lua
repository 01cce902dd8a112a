-- Lets a key live for so long at least. KEYS: key. ARGV: time to live in ms. 0: there is no such key.
local left = redis.call('PTTL', KEYS[1])
if left == -2 then
    return 0
end
if left < tonumber(ARGV[1]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 1
