-- ARGV: as in all, and the message. The number of the last event.
local owner, newest, is_finished = head_of_this()
if not owner then
    return UNKNOWN
end
if is_finished then
    return FINISHED
end
drop_old()
add(newest + 1, ARGV[11])
close()
shorten(this)
fit()
keep()
return newest + 1
