-- KEYS: head, events, streams. ARGV: stream, owner, events at most, bytes at most, age, how long a finished and an
-- unfinished stream is kept, and for each event its number, '1' if it is the last, and the message.
local head, events, streams = KEYS[1], KEYS[2], KEYS[3]
local owner, newest, is_finished = head_of(head)
if not owner then
    return UNKNOWN
end
if owner ~= ARGV[2] then
    return MOVED
end
for at = 8, #ARGV, 3 do
    if is_finished then
        return FINISHED
    end
    if tonumber(ARGV[at]) ~= newest + 1 then
        return EVICTED
    end
    newest = newest + 1
    is_finished = ARGV[at + 1] == '1'
end
for at = 8, #ARGV, 3 do
    add(head, events, tonumber(ARGV[at]), ARGV[at + 2])
end
if is_finished then
    close(head, streams, ARGV[1])
end
shorten(head, events, tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]))
keep(head, events, streams, tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]))
return newest
