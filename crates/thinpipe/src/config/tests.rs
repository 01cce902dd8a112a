//! The whole way from text to [`Config`].

use thinpipe_gateway::UpstreamSpec;
use thinpipe_transport::server::Limits;
use thinpipe_transport::upstream::UpstreamConfig;

use super::*;

mod bounds;
mod bridge;
mod docs;
mod messages;
mod quotes;
mod rate;
mod replicas;
mod secrets;
mod shares;
mod sse;
mod stdio;
mod store;

/// Reads a text as a file of this name.
fn load_text(name: &str, text: &str, flags: &Settings) -> Result<Loaded, Problems> {
    let source = Source {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let format = Format::of(Path::new(name), text);
    parse(source, format, flags, &environment)
}

fn toml(text: &str) -> Result<Loaded, Problems> {
    load_text("t.toml", text, &Settings::default())
}

fn client(spec: &UpstreamSpec) -> &UpstreamConfig {
    &spec.http().expect("a server at a URL").client
}

fn environment(name: &str) -> Option<String> {
    match name {
        "API_TOKEN" => Some("s3cret-of-the-upstream".to_owned()),
        _ => None,
    }
}

const ONE: &str = "[[upstreams]]\nurl = \"http://127.0.0.1:3001/mcp\"\n";

#[test]
fn one_upstream_is_served_on_mcp_with_all_defaults() {
    let config = toml(ONE).unwrap().config;
    assert_eq!(config.listen, build::LISTEN);
    assert_eq!(config.admin, Some(ADMIN));
    assert!(config.server.access.loopback && !config.server.access.any_host);
    assert_eq!(config.server.limits, Limits::default());
    let [spec] = config.gateway.upstreams.as_slice() else {
        panic!("{config:?}");
    };
    assert_eq!(spec.path, "/mcp");
    assert_eq!(&**spec.name(), "server");
    assert_eq!(client(spec).url, "http://127.0.0.1:3001/mcp");
}

#[test]
fn several_upstreams_are_served_by_name_unless_they_have_a_path() {
    let text = "[[upstreams]]\nname = \"a\"\nurl = \"http://h:1/mcp\"\n[[upstreams]]\nname = \"b\"\nurl = \"http://h:2/mcp\"\npath = \"/beta\"\n";
    let config = toml(text).unwrap().config;
    let paths: Vec<_> = config
        .gateway
        .upstreams
        .iter()
        .map(|spec| spec.path.as_str())
        .collect();
    assert_eq!(paths, ["/servers/a/mcp", "/beta"]);
}

/// I5: every setting that exists on several layers, from the strongest one.
#[test]
fn i5_flags_go_before_environment_before_file_before_default() {
    let file = "listen = \"127.0.0.1:1001\"\nadmin = \"127.0.0.1:1002\"\nworkers = 1\nallow_hosts = [\"file\"]\n[log]\nlevel = \"error\"\nformat = \"json\"\n[[upstreams]]\nurl = \"http://h/mcp\"\n";
    let variables = |name: &str| {
        let value = match name {
            "THINPIPE_LISTEN" => "127.0.0.1:2001",
            "THINPIPE_ADMIN" => "off",
            "THINPIPE_WORKERS" => "2",
            "THINPIPE_ALLOW_HOST" => "env1,env2",
            "THINPIPE_LOG" => "warn",
            "THINPIPE_LOG_FORMAT" => "text",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let flags = Settings {
        listen: Some("127.0.0.1:3001".to_owned()),
        workers: Some("3".to_owned()),
        ..Settings::default()
    };
    let none = |_: &str| None;
    let load = |flags: &Settings, environment: Environment<'_>| {
        let source = Source {
            name: "t.toml".to_owned(),
            text: file.to_owned(),
        };
        parse(source, Format::Toml, flags, environment)
            .unwrap()
            .config
    };

    let from_file = load(&Settings::default(), &none);
    assert_eq!(from_file.listen.port(), 1001);
    assert_eq!(from_file.admin.unwrap().port(), 1002);
    assert_eq!(from_file.workers.get(), 1);
    assert_eq!(from_file.server.access.hosts, ["file"]);
    assert_eq!(from_file.log.level, "error");
    assert_eq!(from_file.log.format, LogFormat::Json);

    let from_environment = load(&Settings::default(), &variables);
    assert_eq!(from_environment.listen.port(), 2001);
    assert_eq!(from_environment.admin, None);
    assert_eq!(from_environment.workers.get(), 2);
    assert_eq!(from_environment.server.access.hosts, ["env1", "env2"]);
    assert_eq!(from_environment.log.level, "warn");
    assert_eq!(from_environment.log.format, LogFormat::Text);

    let from_flags = load(&flags, &variables);
    assert_eq!(from_flags.listen.port(), 3001);
    assert_eq!(from_flags.workers.get(), 3);
    assert_eq!(
        from_flags.admin, None,
        "not on the command line: the environment's"
    );

    let default = for_url(
        "http://h/mcp",
        Manner::default(),
        &Settings::default(),
        &none,
    )
    .unwrap();
    assert_eq!(default.listen, build::LISTEN);
    assert_eq!(default.log.level, "info");
}

#[test]
fn the_json_that_clients_use_is_served_as_it_is() {
    for table in ["mcpServers", "servers"] {
        let text = r#"{ "TABLE": {
            "weather": { "type": "http", "url": "http://127.0.0.1:3001/mcp",
                         "headers": { "Authorization": "Bearer ${env:API_TOKEN}" } },
            "files": { "url": "http://127.0.0.1:3002/mcp" },
            "off": { "command": "npx", "args": ["x"], "disabled": true } } }"#;
        let text = text.replace("TABLE", table);
        let loaded = load_text("mcp.json", &text, &Settings::default()).unwrap();
        let specs = &loaded.config.gateway.upstreams;
        let paths: Vec<_> = specs.iter().map(|spec| spec.path.as_str()).collect();
        assert_eq!(paths, ["/servers/files/mcp", "/servers/weather/mcp"]);
        let value = &client(&specs[1]).headers["authorization"];
        assert_eq!(value, "Bearer s3cret-of-the-upstream");
        assert!(value.is_sensitive());
        let shown = loaded.to_toml().unwrap();
        assert!(shown.contains("Bearer ${env:API_TOKEN}"), "{shown}");
    }
}

/// `mcp.json` of VS Code.
#[test]
fn the_servers_of_vs_code_are_read_like_those_of_others() {
    let text = r#"{
        "inputs": [{ "type": "promptString", "id": "key", "password": true }],
        "servers": {
            "github": { "type": "http", "url": "http://127.0.0.1:3001/mcp", "dev": { "watch": "x" } },
            "local": { "type": "stdio", "command": "npx", "disabled": true } } }"#;
    let loaded = load_text("mcp.json", text, &Settings::default()).unwrap();
    let [spec] = &loaded.config.gateway.upstreams[..] else {
        panic!("{:?}", loaded.config.gateway.upstreams);
    };
    assert_eq!((&**spec.name(), &*spec.path), ("github", "/mcp"));
    let [top, entry] = loaded.warnings.as_slice() else {
        panic!("{:?}", loaded.warnings);
    };
    assert!(top.starts_with("beside `servers`: `inputs` "), "{top}");
    assert!(entry.starts_with("in servers.github: `dev` "), "{entry}");

    let both = r#"{ "mcpServers": { "a": { "url": "http://h/a" } }, "servers": { "b": { "url": "http://h/b" } } }"#;
    let loaded = load_text("mcp.json", both, &Settings::default()).unwrap();
    let specs = loaded.config.gateway.upstreams.iter();
    let names: Vec<_> = specs.map(|spec| spec.name().to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    for (entries, said) in [
        (
            r#""servers": { "a": { "type": "stdio" } }"#,
            "servers.a: a server on stdio has no `command`",
        ),
        (
            r#""mcpServers": { "a": { "url": "http://h/a" } }, "servers": { "a": { "url": "http://h/b" } }"#,
            "two upstreams are called `a`",
        ),
    ] {
        let error = load_text("mcp.json", &format!("{{{entries}}}"), &Settings::default());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert_eq!(error.matches("error: ").count(), 1, "{error}");
    }
}

/// Files of real clients hold what only clients need.
#[test]
fn what_only_clients_need_is_passed_over_with_a_warning() {
    let text = r#"{ "globalShortcut": "Ctrl+Space", "inputs": [{ "id": "key", "x": "${input:key}" }],
        "mcpServers": {
        "a": { "httpUrl": "http://127.0.0.1:3001/mcp", "url": "http://127.0.0.1:3001/sse",
               "autoApprove": ["x"], "timeout": 60, "description": "${NOT_SET}", "env": {} },
        "b": { "serverUrl": "http://127.0.0.1:3002/mcp", "transport": "http" },
        "c": { "command": "npx", "env": { "K": "${input:key}" }, "disabled": true } } }"#;
    let loaded = load_text("mcp.json", text, &Settings::default()).unwrap();
    let specs = loaded.config.gateway.upstreams.iter();
    let urls: Vec<_> = specs.map(|spec| client(spec).url.to_string()).collect();
    assert_eq!(
        urls,
        ["http://127.0.0.1:3001/mcp", "http://127.0.0.1:3002/mcp"]
    );
    let [top, entry] = loaded.warnings.as_slice() else {
        panic!("{:?}", loaded.warnings);
    };
    assert!(top.starts_with("beside `mcpServers`: `globalShortcut`, `inputs` "));
    assert!(
        entry
            .starts_with("in mcpServers.a: `url`, `autoApprove`, `timeout`, `description`, `env` "),
        "{entry}"
    );
    // The formats of its own stay strict.
    assert!(toml("lsiten = \"x\"\n[mcpServers.a]\nurl = \"http://h/mcp\"\n").is_err());
    let text =
        r#"{"mcpServers": {"a": {"url": "http://h/mcp", "headers": { "A": "${input:key}" }}}}"#;
    let error = load_text("mcp.json", text, &Settings::default()).unwrap_err();
    let said = "`${input:key}` is asked of a client's user";
    assert!(error.to_string().contains(said), "{error}");
}

#[test]
fn values_of_the_environment_and_passwords_are_in_no_message() {
    for text in [
        "[[upstreams]]\nname = \"a/${API_TOKEN}\"\nurl = \"http://h/mcp\"\n",
        "[[upstreams]]\nurl = \"ftp://h/${API_TOKEN}\"\n",
        "listen = \"${API_TOKEN}\"\n",
        "[limits]\nmax_body = \"${API_TOKEN}\"\n",
        "legacy = \"${API_TOKEN}\"\n",
        "[[upstreams]]\nurl = \"ftp://u:s3cret@h/\"\n",
        "[[upstreams]]\nurl = \"http://u:s3cret@h/#x\"\n",
        "[[upstreams]]\nurl = \"u:s3cret@h/\"\n",
    ] {
        let error = toml(text).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
        assert!(
            error.contains("${API_TOKEN}") || error.contains("***"),
            "{error}"
        );
    }
    let shown = toml("[[upstreams]]\nurl = \"http://h/${API_TOKEN}\"\n").unwrap();
    let shown = shown.to_toml().unwrap();
    assert!(shown.contains("url = \"http://h/${API_TOKEN}\""), "{shown}");
}

#[test]
fn every_setting_reaches_its_place() {
    let text = r#"
allow_sessionless = true
legacy = "refused"
allow_origins = ["https://App.example.com:443"]
trusted_proxies = ["10.0.0.0/8", "::1"]
forwarded_header = "forwarded"
carried_headers = ["X-Tenant"]
[limits]
max_connections = 7
max_body = "1 MiB"
keep_alive = "3s"
[sessions]
max = 9
idle = "5m"
[[tokens]]
principal = "alice"
token = "0123456789abcdef"
[[upstreams]]
name = "a"
url = "http://h/mcp"
http2 = true
session_lost = "reestablish"
resume = "off"
forwarded = "append"
max_message = "64 KiB"
max_passed_body = 2048
timeouts = { connect = "1s", stream_idle = "1h" }
pool = { max_streams = 3, rotate_after = "90s" }
health = { interval = "0s", failures = 5 }
chain = { timeout_ms = 250, on_failure = "continue" }
interceptors = [{ type = "log" }]
"#;
    let config = toml(text).unwrap().config;
    let server = &config.server;
    assert!(server.allow_sessionless);
    assert_eq!(
        server.legacy,
        thinpipe_transport::server::LegacyMode::Refused
    );
    assert_eq!(server.access.origins, ["https://app.example.com"]);
    assert_eq!(server.carried_headers, ["x-tenant"]);
    let proxies = &server.trusted_proxies;
    let networks = proxies.networks.iter().map(ToString::to_string);
    assert_eq!(networks.collect::<Vec<_>>(), ["10.0.0.0/8", "::1"]);
    assert_eq!(
        proxies.header,
        thinpipe_proto::forwarded::ForwardedHeader::Forwarded
    );
    assert_eq!(server.limits.max_connections, 7);
    assert_eq!(server.limits.max_body, 1 << 20);
    assert_eq!(server.limits.keep_alive.as_secs(), 3);
    assert_eq!(
        (server.sessions.max, server.sessions.idle.as_secs()),
        (9, 300)
    );
    assert_eq!(server.tokens[0].principal, "alice");
    let spec = &config.gateway.upstreams[0];
    assert!(client(spec).http2);
    assert_eq!(spec.forwarded, thinpipe_gateway::Forwarded::Append);
    assert_eq!(
        spec.session_lost,
        thinpipe_gateway::SessionLost::Reestablish
    );
    assert_eq!(spec.resume, thinpipe_gateway::Resume::Off);
    assert_eq!((spec.max_message, spec.max_passed_body), (64 << 10, 2048));
    assert_eq!(client(spec).connect_timeout.as_secs(), 1);
    assert_eq!(client(spec).stream_idle_timeout.as_secs(), 3600);
    assert_eq!(
        (
            client(spec).max_streams,
            client(spec).rotate_after.as_secs()
        ),
        (3, 90)
    );
    assert_eq!(
        (spec.health.interval.as_secs(), spec.health.failures),
        (0, 5)
    );
    assert_eq!(spec.chain.timeout_ms, 250);
    assert_eq!(spec.interceptors.len(), 1);
}

/// What stands at the top holds for every upstream, also for those of clients; what an upstream has
/// of its own comes behind it.
#[test]
fn interceptors_at_the_top_are_everybodys() {
    let text = r#"
interceptors = [{ type = "sanitize" }]
chain = { timeout_ms = 7 }
[[upstreams]]
name = "a"
url = "http://h/a"
chain = { on_failure = "continue" }
interceptors = [{ type = "log" }]
[mcpServers.b]
url = "http://h/b"
"#;
    let config = toml(text).unwrap().config;
    let kinds = |at: usize| -> Vec<_> {
        let spec = &config.gateway.upstreams[at];
        spec.interceptors
            .iter()
            .map(|config| config.kind())
            .collect()
    };
    assert_eq!(kinds(0), ["sanitize", "log"]);
    assert_eq!(kinds(1), ["sanitize"]);
    assert_eq!(config.gateway.upstreams[0].chain.timeout_ms, 5000);
    assert_eq!(config.gateway.upstreams[1].chain.timeout_ms, 7);
    let shown = toml(text).unwrap().to_toml().unwrap();
    assert_eq!(toml(&shown).unwrap().to_toml().unwrap(), shown);
}

#[test]
fn the_effective_configuration_reads_back_as_the_same_and_holds_no_secret() {
    let text = r#"
[[tokens]]
principal = "alice"
token = "0123456789abcdef"
[[upstreams]]
name = "a"
url = "http://h/mcp"
headers = { X-Key = "hunter2hunter2", Authorization = "Bearer ${API_TOKEN}" }
interceptors = [{ type = "log" }]
[[upstreams]]
name = "b"
url = "http://h/b"
"#;
    let loaded = toml(text).unwrap();
    let shown = loaded.to_toml().unwrap();
    for secret in ["0123456789abcdef", "hunter2", "s3cret"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(
        shown.contains("authorization = \"Bearer ${API_TOKEN}\""),
        "{shown}"
    );
    assert!(shown.contains("type = \"log\""), "{shown}");
    // What is printed is never sent to a server by mistake.
    let refused = toml(&shown).unwrap_err().to_string();
    assert!(refused.contains("showed no secret"), "{refused}");
    let visible = shown.replace("${REDACTED}", "0123456789abcdef");
    let again = toml(&visible).unwrap().to_toml().unwrap();
    assert_eq!(again, shown);
}

/// B18: beyond this machine only by name.
#[test]
fn b18_other_addresses_than_loopback_need_hosts() {
    let settings = |listen: &str, hosts: &[&str]| Settings {
        listen: Some(listen.to_owned()),
        allow_host: hosts.iter().map(|&host| host.to_owned()).collect(),
        ..Settings::default()
    };
    let run = |flags: Settings| for_url("http://h/mcp", Manner::default(), &flags, &|_| None);
    for listen in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80"] {
        assert!(run(settings(listen, &[])).is_err(), "{listen}");
        let access = run(settings(listen, &["mcp.example.com"]))
            .unwrap()
            .server
            .access;
        assert!(!access.loopback && !access.any_host);
        assert_eq!(access.hosts, ["mcp.example.com"]);
        assert!(
            run(settings(listen, &["*"]))
                .unwrap()
                .server
                .access
                .any_host
        );
    }
    for listen in ["127.0.0.1:0", "127.8.8.8:80", "[::1]:80", "localhost:80"] {
        assert!(
            run(settings(listen, &[])).unwrap().server.access.loopback,
            "{listen}"
        );
    }
}

/// I3: no text makes the reader panic.
#[test]
fn i3_mutilated_files_are_errors_or_fine_but_never_panics() {
    let texts = [
        (
            "a.toml",
            "listen = \"127.0.0.1:1\"\n[[upstreams]]\nname = \"ä\"\nurl = \"http://h/${API_TOKEN}\"\n",
        ),
        (
            "a.yaml",
            "listen: 127.0.0.1:1\nupstreams:\n  - {name: ä, url: 'http://h/${API_TOKEN}'}\n",
        ),
        (
            "a.json",
            "{\"mcpServers\": {\"ä\": {\"url\": \"http://h/${API_TOKEN}\", \"headers\": {\"a\": null}}}}",
        ),
    ];
    for (name, text) in texts {
        for (at, _) in text.char_indices() {
            for insert in ["", "\"", "{", "]", "\n", "\t", "\u{0}", "é", ":", "&a *a"] {
                let cut = format!("{}{insert}", &text[..at]);
                let joined = format!("{cut}{}", &text[at..]);
                for text in [cut, joined] {
                    if let Err(problems) = load_text(name, &text, &Settings::default()) {
                        assert!(!problems.to_string().is_empty());
                    }
                }
            }
        }
    }
}
