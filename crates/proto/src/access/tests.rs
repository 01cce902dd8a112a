use super::*;

fn policy(hosts: &[&str], origins: &[&str]) -> AccessPolicy {
    AccessPolicy {
        hosts: hosts.iter().map(ToString::to_string).collect(),
        origins: origins.iter().map(ToString::to_string).collect(),
        ..AccessPolicy::default()
    }
}

fn loopback() -> AccessPolicy {
    AccessPolicy {
        loopback: true,
        ..AccessPolicy::default()
    }
}

fn host(policy: &AccessPolicy, value: &str) -> bool {
    policy.allows_host(Some(value.as_bytes()))
}

fn origin(policy: &AccessPolicy, value: &str) -> bool {
    policy.allows_origin(Some(value.as_bytes()))
}

/// R183: the rebinding attack arrives with the attacker's name in `Host`.
#[test]
fn r183_a_loopback_listener_refuses_foreign_hosts() {
    let policy = loopback();
    for value in [
        "localhost",
        "LocalHost:3000",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:65535",
        "[0:0:0:0:0:0:0:1]",
    ] {
        assert!(host(&policy, value), "{value}");
    }
    for value in [
        "",
        "example.com",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "127.0.0.2",
        "0.0.0.0",
        "localhost@example.com",
        "user@localhost",
        "user:x@localhost",
        "localhost:",
        "localhost:x",
        "localhost:65536",
        "localhost:1:2",
        "localhost:+1",
        "localhost/",
        " localhost",
        "localhost..",
        "::1",
        "[::1",
        "[::1]x",
        "[::1%lo]",
        "[127.0.0.1]",
        "[::ffff:127.0.0.1]",
        ":80",
        ".",
        "2130706433",
        "127.1",
        "0177.0.0.1",
        "http://localhost",
        "localhost,example.com",
    ] {
        assert!(!host(&policy, value), "{value}");
    }
    assert!(!policy.allows_host(None));
    assert!(!policy.allows_host(Some(b"localh\xc3\xb6st")));
}

/// C16, B18
#[test]
fn b18_hosts_are_served_by_list() {
    let policy = policy(
        &[
            "mcp.example.com",
            "other.example:8443",
            "[2001:db8::1]",
            "tls.example:443",
        ],
        &[],
    );
    for value in [
        "mcp.example.com",
        "MCP.Example.COM:9",
        "mcp.example.com.",
        "other.example:8443",
        "[2001:DB8:0::1]:5",
        "tls.example",
        "tls.example:443",
    ] {
        assert!(host(&policy, value), "{value}");
    }
    for value in [
        "localhost",
        "other.example",
        "other.example:8444",
        "xmcp.example.com",
        "tls.example:80",
    ] {
        assert!(!host(&policy, value), "{value}");
    }
    let open = AccessPolicy {
        any_host: true,
        ..AccessPolicy::default()
    };
    assert!(host(&open, "anything.example"));
    assert!(!open.allows_host(None));
    assert!(!host(&AccessPolicy::default(), "localhost"));
}

/// R182
#[test]
fn r182_a_present_origin_must_be_on_the_list_and_an_absent_one_passes() {
    let policy = policy(
        &[],
        &[
            "https://app.example.com",
            "http://x.example:8080",
            "vscode-webview://abc",
        ],
    );
    assert!(policy.allows_origin(None));
    for value in [
        "https://app.example.com",
        "HTTPS://App.Example.Com",
        "https://app.example.com:443",
        "http://x.example:8080",
        "vscode-webview://abc",
    ] {
        assert!(origin(&policy, value), "{value}");
    }
    for value in [
        "null",
        "",
        "http://app.example.com",
        "https://app.example.com:444",
        "https://app.example.com/",
        "https://app.example.com.",
        "https://app.example.com@evil.example",
        "https://u@app.example.com",
        "https://evil.example",
        "https://app.example.com.evil.example",
        "app.example.com",
        "https://app.example.com https://evil.example",
        "http://localhost:3000",
        "http://x.example",
        "https:app.example.com",
        "://app.example.com",
    ] {
        assert!(!origin(&policy, value), "{value}");
    }
}

/// R202: the conformance suite sends the listener's own origin.
#[test]
fn r202_a_loopback_listener_accepts_its_own_origin() {
    let policy = loopback();
    for value in [
        "http://localhost:3000",
        "http://127.0.0.1:8080",
        "http://[::1]:1",
        "http://localhost",
    ] {
        assert!(origin(&policy, value), "{value}");
    }
    for value in [
        "https://localhost:3000",
        "http://localhost.evil.example",
        "http://evil.example",
        "null",
        "file://",
    ] {
        assert!(!origin(&policy, value), "{value}");
    }
    assert!(!origin(&AccessPolicy::default(), "http://localhost"));
}

#[test]
fn null_is_an_origin_like_any_other() {
    assert!(origin(&policy(&[], &["null"]), "null"));
    assert!(!origin(&policy(&[], &["null"]), "nul"));
}
