//! What somebody reads who made a mistake: place, line and mend.

use super::*;

/// The message for a text that is wrong, exactly.
pub(super) fn says(name: &str, text: &str, expected: &str) {
    let error = load_text(name, text, &Settings::default()).expect_err(text);
    assert_eq!(error.to_string(), expected.trim_matches('\n'), "\n{text}");
}

/// The message for one wrong line in an upstream's table, without its excerpt.
pub(super) fn upstream_says(line: &str, message: &str, mend: &str) {
    let url = match line.starts_with("url") {
        true => "",
        false => "url = \"http://h/mcp\"\n",
    };
    wrong(&format!("[[upstreams]]\n{url}{line}\n"), message, mend);
}

pub(super) fn wrong(text: &str, message: &str, mend: &str) {
    let error = toml(text).expect_err(text).to_string();
    let first = error.lines().next().unwrap();
    let help = error
        .lines()
        .find(|line| line.starts_with("  = help: "))
        .unwrap_or("");
    assert_eq!(first, format!("error: {message}"), "\n{text}");
    assert_eq!(help, format!("  = help: {mend}"), "\n{text}");
    assert!(error.contains("--> t.toml:"), "{error}");
}

#[test]
fn an_unknown_key_is_shown_with_its_line_and_a_suggestion() {
    says(
        "thinpipe.toml",
        "# mine\nlsiten = \"127.0.0.1:8080\"\n",
        r#"
error: unknown key `lsiten`
 --> thinpipe.toml:2:1
  |
2 | lsiten = "127.0.0.1:8080"
  | ^^^^^^
  = help: did you mean `listen`?"#,
    );
    says(
        "thinpipe.yaml",
        "upstreams:\n  - name: a\n    url: http://h/mcp\n    timeouts:\n      conect: 5s\n",
        r#"
error: upstreams[0].timeouts: unknown key `conect`
 --> thinpipe.yaml:5:7
  |
5 |       conect: 5s
  |       ^^^^^^
  = help: did you mean `connect`?"#,
    );
    says(
        "mcp.json",
        "{\n  \"mcp_servers\": {}\n}\n",
        r#"
error: unknown key `mcp_servers`
 --> mcp.json:2:3
  |
2 |   "mcp_servers": {}
  |   ^^^^^^^^^^^^^
  = help: did you mean `mcpServers`?"#,
    );
}

#[test]
fn values_of_the_wrong_kind_say_what_was_expected() {
    says(
        "t.toml",
        "[limits]\nhead_timeout = \"10 parsecs\"\n",
        r#"
error: limits.head_timeout: expected a duration with its unit, such as "500ms", "30s", "5m" or "24h", found "10 parsecs"
 --> t.toml:2:16
  |
2 | head_timeout = "10 parsecs"
  |                ^^^^^^^^^^^^
  = help: write a number with its unit, in quotes, as in `"30s"`"#,
    );
    says(
        "t.toml",
        "[limits]\nkeep_alive = 15\n",
        r#"
error: limits.keep_alive: expected a duration with its unit, such as "500ms", "30s", "5m" or "24h", found the number 15
 --> t.toml:2:14
  |
2 | keep_alive = 15
  |              ^^
  = help: write a number with its unit, in quotes, as in `"30s"`"#,
    );
    says(
        "t.yaml",
        "limits:\n  max_body: 4 Mib/s\n",
        r#"
error: limits.max_body: expected a size, such as 4096, "64 KiB" or "4 MiB", found "4 Mib/s"
 --> t.yaml:2:13
  |
2 |   max_body: 4 Mib/s
  |             ^^^^^^^"#,
    );
    wrong(
        "legacy = \"refuse\"\n",
        "legacy: `refuse` is not known here",
        "did you mean `refused`?",
    );
}

#[test]
fn grammar_is_told_with_its_line() {
    for (name, text, line) in [
        ("t.toml", "listen = \n", "t.toml:1:"),
        ("t.toml", "a = 1\n[b\n", "t.toml:2:"),
        ("t.yaml", "a: 1\n b: 2\n", "t.yaml:2:"),
        ("t.json", "{\"a\": 1,}", "t.json:1:9"),
        ("t.json", "{\n// no\n}", "t.json:2:1"),
    ] {
        let error = load_text(name, text, &Settings::default())
            .expect_err(text)
            .to_string();
        assert!(error.contains(line), "{error}");
        assert!(error.starts_with("error: this is not "), "{error}");
        assert!(!error.contains(" at line"), "{error}");
    }
}

#[test]
fn addresses_that_are_none() {
    wrong(
        "listen = \"8080\"",
        "listen: `8080` is no address to listen on",
        "write an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080",
    );
    wrong(
        "listen = \"127.0.0.1:9\"\nadmin = \"127.0.0.1:9\"",
        "admin: 127.0.0.1:9 is the address that clients connect to",
        "give the admin address another port, or write \"off\"",
    );
    wrong(
        "listen = \"0.0.0.0:9\"",
        "listen: 0.0.0.0:9 can be reached from other machines, but no host names are allowed: a web page could reach it through its visitors' browsers (DNS rebinding)",
        "name the hosts that clients use, `--allow-host mcp.example.com` or `allow_hosts = [\"mcp.example.com\"]`; \"*\" if a proxy in front checks `Host`; or listen on 127.0.0.1",
    );
    wrong(
        "allow_hosts = [\"https://mcp.example.com/\"]",
        "allow_hosts[0]: `https://mcp.example.com/` is no host name",
        "write the name alone: `mcp.example.com`",
    );
    wrong(
        "allow_origins = [\"https://a.example/x\"]",
        "allow_origins[0]: `https://a.example/x` is no web origin",
        "an origin has no path: `https://a.example`",
    );
    wrong(
        "trusted_proxies = [\"::1\", \"10.1.2.3/8\"]",
        "trusted_proxies[1]: `10.1.2.3/8` is no address or network",
        "the network is 10.0.0.0/8; one address alone has no prefix",
    );
    wrong(
        "carried_headers = [\"x-tenant\", \"X-Api-Key\"]",
        "carried_headers[1]: `X-Api-Key` never reaches a server",
        "take it out: servers get the gateway's credentials, not clients'",
    );
    wrong(
        "carried_headers = [\"x tenant\"]",
        "carried_headers[0]: this is no header name",
        "write it as in \"x-tenant\"",
    );
}

#[test]
fn settings_of_the_command_line_and_environment_are_named_as_such() {
    let flags = Settings {
        listen: Some("nowhere".to_owned()),
        log_format: Some("jsno".to_owned()),
        ..Settings::default()
    };
    let error = for_url("http://h/mcp", Manner::named("a/b"), &flags, &|name| {
        (name == "THINPIPE_LOG").then(|| "a=b=c".to_owned())
    });
    let error = error.unwrap_err().to_string();
    let firsts: Vec<_> = error
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(
        firsts,
        [
            "error: --listen: `nowhere` is no address to listen on",
            "error: --log-format: `jsno` is no format of log lines",
            "error: THINPIPE_LOG: `a=b=c` is no level of logging",
            "error: --name: `a/b` cannot be the name of an upstream",
        ]
    );
    assert!(error.contains("did you mean `json`?"), "{error}");
    let error = for_url(
        "ftp://h/mcp",
        Manner::default(),
        &Settings::default(),
        &|_| None,
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("error: URL: `ftp://h/mcp` has a scheme"),
        "{error}"
    );
}

/// I5: also a port that is none, which must not lead to the scheme's own.
#[test]
fn i5_urls_that_cannot_be_an_upstreams() {
    let example = "write it as in http://127.0.0.1:3001/mcp";
    for (url, message, mend) in [
        ("a.b c", "`a.b c` is no URL", example),
        (
            "server",
            "`server` is no URL",
            "write it as in http://127.0.0.1:3001/mcp; to run a program, write `command` instead of `url`",
        ),
        (
            "localhost:3001/mcp",
            "`localhost:3001/mcp` is no URL",
            "write `http://localhost:3001/mcp`",
        ),
        (
            "localhost:3001",
            "`localhost:3001` is no URL",
            "write `http://localhost:3001/mcp`, or whatever the path of its MCP endpoint is",
        ),
        (
            "ftp://h/",
            "`ftp://h/` has a scheme that is not served",
            example,
        ),
        (
            "http://h/#x",
            "`http://h/#x` has a fragment",
            "remove what begins with `#`",
        ),
        (
            "http://u:pw@h/",
            "the URL holds a user name or a password",
            "put credentials into `headers`: `Authorization = \"Basic ${CREDENTIALS}\"`",
        ),
        (
            "http://localhost:8080/mcp",
            "`http://localhost:8080/mcp` is the address that the gateway itself listens on",
            "give the server's own address, or listen on another",
        ),
        ("http:///mcp", "`http:///mcp` is no URL", example),
        (
            "http://h:99999/mcp",
            "`http://h:99999/mcp` names a port that does not exist",
            "write a port from 1 to 65535, or none",
        ),
        (
            "https://h:0/mcp",
            "`https://h:0/mcp` names a port that does not exist",
            "write a port from 1 to 65535, or none",
        ),
    ] {
        upstream_says(
            &format!("url = \"{url}\""),
            &format!("upstreams[0].url: {message}"),
            mend,
        );
    }
}

#[test]
fn upstreams_that_are_in_each_others_way() {
    wrong(
        "listen = \"127.0.0.1:1\"",
        "there is no server to stand in front of",
        "add one: `[[upstreams]]` and `url = \"http://127.0.0.1:3001/mcp\"`",
    );
    let two = |first: &str, second: &str| {
        format!(
            "[[upstreams]]\nurl = \"http://h/1\"\n{first}\n[[upstreams]]\nurl = \"http://h/2\"\n{second}\n"
        )
    };
    wrong(
        &two("name = \"a\"", "name = \"a\""),
        "upstreams[1].name: two upstreams are called `a`",
        "give each a name of its own",
    );
    wrong(
        &two("name = \"a\"", ""),
        "upstreams[1]: one of several upstreams has no name",
        "add `name`: its path will be /servers/<name>/mcp",
    );
    wrong(
        &two("name = \"a\"\npath = \"/x\"", "name = \"b\"\npath = \"/x\""),
        "upstreams[1].path: two upstreams are served on /x",
        "give each a path of its own",
    );
    upstream_says(
        "path = \"mcp\"",
        "upstreams[0].path: `mcp` is no path of an endpoint",
        "write it as in \"/mcp\"",
    );
    upstream_says(
        "path = \"/a?b\"",
        "upstreams[0].path: `/a?b` is no path of an endpoint",
        "write it as in \"/mcp\"",
    );
    wrong(
        "[[upstreams]]\nname = \"a\"",
        "upstreams[0]: the upstream has neither `url` nor `command`",
        "add `url = \"http://127.0.0.1:3001/mcp\"`, or `command = \"npx\"` for a server on stdio",
    );
}

#[test]
fn headers_and_tokens() {
    upstream_says(
        "headers = { Host = \"x\" }",
        "upstreams[0].headers.Host: `Host` is set by the gateway itself",
        "remove it",
    );
    upstream_says(
        "headers = { Mcp-Session-Id = \"x\" }",
        "upstreams[0].headers.Mcp-Session-Id: `Mcp-Session-Id` is set by the gateway itself",
        "remove it",
    );
    upstream_says(
        "headers = { \"a b\" = \"x\" }",
        "upstreams[0].headers.a b: `a b` is no name of a header",
        "write it as in \"Authorization\"",
    );
    upstream_says(
        "headers = { a = \"x\\ny\" }",
        "upstreams[0].headers.a: a header's value is one line of printable text",
        "look for line breaks in it",
    );
    wrong(
        "[[tokens]]\nprincipal = \"a\"\ntoken = \"short\"",
        "tokens[0].token: a token is at least 16 characters of visible ASCII",
        "make one with `openssl rand -hex 32`",
    );
    wrong(
        "[[tokens]]\nprincipal = \" \"\ntoken = \"0123456789abcdef\"",
        "tokens[0].principal: the name is empty",
        "name whose token it is, such as \"alice\"",
    );
    let twice = "[[tokens]]\nprincipal = \"a\"\ntoken = \"0123456789abcdef\"\n".repeat(2);
    wrong(
        &twice,
        "tokens[1].token: this token is given twice",
        "give everybody a token of their own",
    );
    wrong(
        "[[tokens]]\nprincipal = \"a\"",
        "tokens[0]: `token` is missing",
        "add `token`",
    );
}

#[test]
fn secrets_are_not_in_messages() {
    let text = "[[tokens]]\nprincipal = \"a\"\ntoken = \"hunter2\"\n";
    let error = toml(text).unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn variables_that_are_not_set() {
    says(
        "t.yaml",
        "upstreams:\n- url: http://h/${NOT_SET}\n",
        r#"
error: the environment variable `NOT_SET` is not set
 --> t.yaml:2:8
  |
2 | - url: http://h/${NOT_SET}
  |        ^^^^^^^^^^^^^^^^^^^
  = help: set it, or give a default: `${NOT_SET:-default}`"#,
    );
}

#[test]
fn servers_of_clients_that_contradict_themselves() {
    says(
        "mcp.json",
        r#"{"mcpServers": {"files": {"command": "npx", "url": "http://h/"}}}"#,
        r#"
error: mcpServers.files.command: an entry has either `url` or `command`
 --> mcp.json:1:38
  |
1 | {"mcpServers": {"files": {"command": "npx", "url": "http://h/"}}}
  |                                      ^^^^^
  = help: remove one of them"#,
    );
    for (entry, message) in [
        (
            r#"{"type": "stdio", "url": "http://h/"}"#,
            "mcpServers.a: a server on stdio has no `command`",
        ),
        (
            r#"{"type": "htpp", "url": "http://h/"}"#,
            "mcpServers.a.type: `htpp` is not known here",
        ),
        (
            r#"{"type": "http", "url": "http://h/", "command": "x"}"#,
            "mcpServers.a.command: an entry has either `url` or `command`",
        ),
        (
            r#"{}"#,
            "mcpServers.a: the upstream has neither `url` nor `command`",
        ),
        (r#"{"uri": "http://h/"}"#, "mcpServers.a: unknown key `uri`"),
    ] {
        let text = format!("{{\"mcpServers\": {{\"a\": {entry}}}}}");
        let error = load_text("m.json", &text, &Settings::default())
            .expect_err(&text)
            .to_string();
        assert_eq!(
            error.lines().next(),
            Some(format!("error: {message}").as_str()),
            "{error}"
        );
        assert!(error.contains("= help: "), "{error}");
    }
}

#[test]
fn interceptors_are_checked_by_name() {
    upstream_says(
        "interceptors = [{ type = \"lgo\" }]",
        "upstreams[0].interceptors[0].type: `lgo` is not known here",
        "did you mean `log`?",
    );
}

/// E6: what cannot work is refused before anything is served, at its line.
#[test]
fn e6_interceptors_that_cannot_work_are_shown_with_their_line() {
    let text = "[[upstreams]]\nurl = \"http://h/mcp\"\n[[upstreams.interceptors]]\ntype = \"headers\"\nrequest = { set = { \"a b\" = \"x\" } }\n";
    let error = toml(text).unwrap_err().to_string();
    assert!(
        error.starts_with("error: upstreams[0].interceptors[0].request.set.a b: "),
        "{error}"
    );
    assert!(error.contains("t.toml:5:"), "{error}");
}

/// E6: what all upstreams share is told once, where it stands.
#[test]
fn e6_shared_interceptors_are_shown_where_they_stand() {
    let text = "chain = { timeout_ms = 0 }\n[[upstreams]]\nname = \"a\"\nurl = \"http://h/a\"\n[[upstreams]]\nname = \"b\"\nurl = \"http://h/b\"\n";
    let error = toml(text).unwrap_err().to_string();
    assert_eq!(error.matches("error: ").count(), 1, "{error}");
    assert!(error.starts_with("error: chain.timeout_ms: "), "{error}");
    assert!(error.contains("t.toml:1:24"), "{error}");
    let text = text.replace(
        "chain = { timeout_ms = 0 }",
        "interceptors = [{ type = \"log\" }, { type = \"headers\" }]",
    );
    let error = toml(&text).unwrap_err().to_string();
    assert!(
        error.starts_with("error: interceptors[1].request: "),
        "{error}"
    );
}

/// I5: a word that is no level would be taken for the name of a module, and everything else would be silent.
#[test]
fn i5_a_misspelt_log_level_is_an_error() {
    for level in ["verbose", "debugg", "info,thinpipe_gatway", ""] {
        let text = format!("log.level = \"{level}\"\n[[upstreams]]\nurl = \"http://h/mcp\"\n");
        let error = toml(&text).unwrap_err().to_string();
        assert!(error.contains("is no level of logging"), "{level}: {error}");
    }
    for level in ["INFO", "warn,thinpipe_gateway=debug", "off"] {
        let text = format!("log.level = \"{level}\"\n[[upstreams]]\nurl = \"http://h/mcp\"\n");
        assert!(toml(&text).is_ok(), "{level}");
    }
}

#[test]
fn what_should_be_a_list_is_shown_as_one() {
    for (text, message, mend) in [
        (
            "[upstreams]\nurl = \"http://h/mcp\"\n",
            "upstreams: ",
            "each upstream is an entry of a list: `[[upstreams]]` in TOML",
        ),
        (
            "[[upstreams]]\ncommand = \"sh\"\nargs = \"x\"\n",
            "upstreams[0].args: ",
            "write a list, as in `[\"a\", \"b\"]`",
        ),
    ] {
        let error = toml(text).expect_err(text).to_string();
        assert!(error.starts_with(&format!("error: {message}")), "{error}");
        assert!(error.contains(&format!("= help: {mend}")), "{error}");
    }
}
