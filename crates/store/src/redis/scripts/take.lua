-- ARGV: messages and bytes at most (but one message), how many the node has got since it began, time that a dead
-- node's inbox is kept in ms. What the node has not got yet.
-- First a write that needs no memory, as in the life sign: a full Redis gives out what it has.
redis.call('PEXPIRE', taken, kept(ARGV[4]))
local limit, max_bytes, got = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local kept = kept(ARGV[4])
local left = bytes()
-- A call that was given up may come after a later one, and knows less.
local before = tonumber(redis.call('GET', seen) or got)
got = math.max(got, before)
local done = got - before
if done > 0 then
    for _, message in ipairs(redis.call('LRANGE', taken, 0, done - 1)) do
        left = left - #message
    end
    redis.call('LTRIM', taken, done, -1)
end
local messages, sum = redis.call('LRANGE', taken, 0, limit - 1), 0
for _, message in ipairs(messages) do
    sum = sum + #message
end
while #messages < limit and sum < max_bytes do
    local message = redis.call('LMOVE', inbox, taken, 'LEFT', 'RIGHT')
    if not message then
        break
    end
    messages[#messages + 1] = message
    sum = sum + #message
end
if redis.call('EXISTS', inbox) == 0 then
    redis.call('DEL', bell)
end
redis.call('SET', seen, string.format('%.0f', got), 'PX', kept)
if waiting() == 0 then
    redis.call('DEL', size)
else
    resize(left, kept)
    redis.call('PEXPIRE', taken, kept)
end
return messages
