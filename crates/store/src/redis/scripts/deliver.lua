-- ARGV: message, messages and bytes at most, time that a dead node's inbox is kept in ms. 1: delivered, -1: the node
-- is gone, -2: its inbox is full.
if redis.call('EXISTS', alive) == 0 then
    return -1
end
local grown = bytes() + #ARGV[1]
if redis.call('LLEN', inbox) >= tonumber(ARGV[2]) or grown > tonumber(ARGV[3]) then
    return -2
end
local kept = kept(ARGV[4])
redis.call('RPUSH', inbox, ARGV[1])
redis.call('PEXPIRE', inbox, kept)
resize(grown, kept)
if redis.call('EXISTS', bell) == 0 then
    redis.call('RPUSH', bell, 1)
end
redis.call('PEXPIRE', bell, kept)
return 1
