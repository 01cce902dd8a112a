-- ARGV: as in all, and after which number, and how many at most. Code, owner, request, newest, whether that is the
-- last, and the messages.
local owner, newest, is_finished = head_of_this()
if not owner then
    return { UNKNOWN, false, false, 0, 0, {} }
end
if not is_finished then
    redis.call('PEXPIRE', head, unfinished_for)
    keep_all()
end
local after = tonumber(ARGV[11])
if after > newest then
    return { EVICTED, false, false, 0, 0, {} }
end
shorten(this)
local messages = {}
if after < newest then
    local wanted = text(after + 1) .. '-0'
    local first = redis.call('XRANGE', events, wanted, '+', 'COUNT', 1)[1]
    if not first or first[1] ~= wanted then
        return { EVICTED, false, false, 0, 0, {} }
    end
    for _, event in ipairs(redis.call('XRANGE', events, wanted, '+', 'COUNT', ARGV[12])) do
        messages[#messages + 1] = event[2][4]
    end
end
return { 0, owner, redis.call('HGET', head, 'request'), newest, is_finished and 1 or 0, messages }
