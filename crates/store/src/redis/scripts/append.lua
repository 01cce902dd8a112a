-- ARGV: as in all, and for each event its number, '1' if it is the last, and the message.
local owner, newest, is_finished = head_of_this()
if not owner then
    return UNKNOWN
end
if owner ~= ARGV[2] then
    return MOVED
end
for at = 11, #ARGV, 3 do
    if is_finished then
        return FINISHED
    end
    if tonumber(ARGV[at]) ~= newest + 1 then
        return EVICTED
    end
    newest = newest + 1
    is_finished = ARGV[at + 1] == '1'
end
drop_old()
for at = 11, #ARGV, 3 do
    add(tonumber(ARGV[at]), ARGV[at + 2])
end
if is_finished then
    close()
end
shorten(this)
fit()
keep()
return newest
