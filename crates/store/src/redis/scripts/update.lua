-- Replaces a record of one version. KEYS: record. ARGV: text, version. The new version; -1: there is another
-- version, 0: there is no record.
local version = redis.call('HGET', KEYS[1], 'version')
if not version then
    return 0
end
if version ~= ARGV[2] then
    return -1
end
redis.call('HSET', KEYS[1], 'record', ARGV[1])
return redis.call('HINCRBY', KEYS[1], 'version', 1)
