-- KEYS: head, events, streams. ARGV: as in append, and the message. The number of the last event.
local head, events, streams = KEYS[1], KEYS[2], KEYS[3]
local owner, newest, is_finished = head_of(head)
if not owner then
    return UNKNOWN
end
if is_finished then
    return FINISHED
end
add(head, events, newest + 1, ARGV[8])
close(head, streams, ARGV[1])
shorten(head, events, tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]))
keep(head, events, streams, tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]))
return newest + 1
