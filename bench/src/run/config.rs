//! The configurations of the proxies that need one.

use std::net::SocketAddr;
use std::path::Path;

use super::target::Target;

/// nginx with one worker that passes everything on as it comes.
pub(crate) fn nginx(folder: &Path, listen: SocketAddr, upstream: SocketAddr) -> String {
    NGINX
        .replace("@FOLDER@", &folder.display().to_string())
        .replace("@LISTEN@", &listen.to_string())
        .replace("@UPSTREAM@", &upstream.to_string())
}

/// Thinpipe as this target, in front of an upstream and beside a store if it has one.
pub(crate) fn gateway(
    target: Target,
    listen: SocketAddr,
    admin: SocketAddr,
    (upstream, store): (SocketAddr, Option<SocketAddr>),
) -> String {
    let store = store.map_or_else(String::new, |store| {
        format!("store = \"redis://{store}\"\n")
    });
    let text = THINPIPE
        .replace("@LISTEN@", &listen.to_string())
        .replace("@ADMIN@", &admin.to_string())
        .replace("@UPSTREAM@", &upstream.to_string());
    let (upstream, interceptors) = match target {
        Target::Inspect(count) => ("", count),
        Target::Log(count) | Target::LogRedis(count) => (LOG, count),
        Target::Untracked => (UNTRACKED, 0),
        Target::Upgrade => (STATELESS, 0),
        Target::Downgrade => (SESSIONS, 0),
        _ => ("", 0),
    };
    let mut text = store + &text + upstream;
    for number in 0..interceptors {
        text.push_str(&INTERCEPTOR.replace("@NUMBER@", &number.to_string()));
    }
    text
}

/// The gateway gives events ids of its own, and keeps them.
const LOG: &str = "resume = \"log\"\n";

/// Which event was the last is of no use.
const UNTRACKED: &str = "resume = \"off\"\n";

/// The server has no sessions.
const STATELESS: &str = "era = \"stateless\"\n";

/// The server has sessions only. Clients share them, as they would if they had names.
const SESSIONS: &str = "\
era = \"streamable\"
sessions = \"pooled\"
parked = { per_principal = 10000 }
";

/// More connections than there are descriptors: short of a sixteenth of them, nginx would begin to
/// close connections that wait for their next request.
const NGINX: &str = "\
worker_processes 1;
daemon off;
pid @FOLDER@/nginx.pid;
error_log @FOLDER@/error.log crit;
events { worker_connections 24000; }
http {
    access_log off;
    tcp_nodelay on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_body_temp_path @FOLDER@/body;
    proxy_temp_path @FOLDER@/proxy;
    fastcgi_temp_path @FOLDER@/fastcgi;
    uwsgi_temp_path @FOLDER@/uwsgi;
    scgi_temp_path @FOLDER@/scgi;
    upstream bench {
        server @UPSTREAM@;
        keepalive 64;
        keepalive_timeout 1h;
        keepalive_requests 1000000000;
    }
    server {
        listen @LISTEN@ backlog=4096;
        location / {
            proxy_pass http://bench;
            proxy_http_version 1.1;
            proxy_set_header Connection '';
            proxy_buffering off;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
        }
    }
}
";

const THINPIPE: &str = r#"listen = "@LISTEN@"
admin = "@ADMIN@"

[sessions]
max = 20000

[[upstreams]]
name = "bench"
url = "http://@UPSTREAM@/mcp"
"#;

/// A pointer that nothing in the benchmark's messages matches: every message is read, none changed.
const INTERCEPTOR: &str = r#"
[[interceptors]]
type = "redact"
rules = [{ pointer = "/params/arguments/secret-@NUMBER@", replace = "[redacted]" }, { pointer = "/result/secret-@NUMBER@", replace = "[redacted]" }]
"#;
