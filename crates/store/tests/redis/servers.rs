//! What tests do with the servers behind a store's back.

use std::time::Duration;

use thinpipe_testkit::Redis;

/// Lets time pass for what servers keep: everything is older afterwards, and what has expired is gone.
pub(crate) async fn advance(servers: &[&Redis], by: Duration) {
    let by = by.as_millis().to_string();
    for server in servers {
        server.command(&["EVAL", OLDER, "0", &by]).await;
    }
}

/// All keys of all servers, in order.
pub(crate) async fn keys(servers: &[&Redis]) -> Vec<String> {
    let mut all = Vec::new();
    for server in servers {
        let keys = server.command(&["KEYS", "*"]).await;
        all.extend(keys.list().iter().map(|key| key.text().to_owned()));
    }
    all.sort();
    all
}

/// Times are in what keys live for, in scores that are not zero, and in the first field of events.
const OLDER: &str = "
local by = tonumber(ARGV[1])
local function earlier(time)
    return string.format('%.0f', time - by)
end
for _, key in ipairs(redis.call('KEYS', '*')) do
    local left = redis.call('PTTL', key)
    local kind = redis.call('TYPE', key).ok
    if kind == 'zset' then
        local members = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
        for at = 1, #members, 2 do
            if tonumber(members[at + 1]) > 0 then
                redis.call('ZADD', key, earlier(members[at + 1]), members[at])
            end
        end
    elseif kind == 'stream' and redis.call('XLEN', key) > 0 then
        local events = redis.call('XRANGE', key, '-', '+')
        redis.call('DEL', key)
        for _, event in ipairs(events) do
            local fields = event[2]
            redis.call('XADD', key, event[1], fields[1], earlier(fields[2]), fields[3], fields[4])
        end
    end
    if left >= 0 and left <= by then
        redis.call('DEL', key)
    elseif left >= 0 then
        redis.call('PEXPIRE', key, left - by)
    end
end
return 1";
