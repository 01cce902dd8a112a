-- ARGV: message, time that a dead node's inbox is kept in ms. 1: it was there.
local found = redis.call('LREM', inbox, 1, ARGV[1])
if waiting() == 0 then
    redis.call('DEL', size)
elseif found == 1 then
    local left = redis.call('PTTL', inbox)
    resize(bytes() - #ARGV[1], left > 0 and left or kept(ARGV[2]))
end
return found
