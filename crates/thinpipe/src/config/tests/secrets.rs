//! What is in the wrong shape may be a secret in the wrong place: no message shows it.

use super::*;

const SECRET: &str = "98765432109876543";

/// What is said of a file, without the secret that stands in it.
fn said(name: &str, text: &str) -> String {
    let error = load_text(name, text, &Settings::default()).expect_err(text);
    let error = error.to_string();
    assert!(!error.contains(SECRET), "{text}\n{error}");
    assert!(!error.contains("Raw"), "{text}\n{error}");
    error
}

/// I5: whatever stands below a key that holds secrets, only its kind is named.
#[test]
fn i5_no_secret_is_shown_in_the_wrong_shape() {
    let s = SECRET;
    let upstream = "[[upstreams]]\nurl = \"http://h/mcp\"\n";
    let program = "[[upstreams]]\ncommand = \"sh\"\n";
    for (text, start) in [
        (
            format!("state_keys = [\"{s}\"]"),
            "state_keys[0]: expected a table with `key` or `file`, found a string",
        ),
        (
            format!("tokens = [\n  \"a={s}\",\n]"),
            "tokens[0]: expected a table with `principal` and `token`, found a string",
        ),
        (
            format!("tokens = [[\"alice\", \"{s}\"]]"),
            "tokens[0]: expected a table with `principal` and `token`, found a list",
        ),
        (
            format!("tokens = \"{s}\""),
            "tokens: expected a list, found a string",
        ),
        (
            format!("{upstream}headers = \"Authorization: Bearer {s}\""),
            "upstreams[0].headers: expected a table, found a string",
        ),
        (
            format!("{program}env = \"API={s}\""),
            "upstreams[0].env: expected a table, found a string",
        ),
        (
            format!("{program}env = {{ API = {s} }}"),
            "upstreams[0].env.API: expected a string, found a number",
        ),
        (
            format!("{program}[upstreams.env]\nAPI = {s}"),
            "upstreams[0].env.API: expected a string, found a number",
        ),
        (
            format!("[[tokens]]\nprincipal = \"alice\"\ntoken = {s}"),
            "tokens[0].token: expected a string, found a number",
        ),
        (
            format!("[[tokens]]\nprincipal = \"alice\"\ntokn = \"{s}\""),
            "tokens[0]: unknown key `tokn`",
        ),
        (
            format!("[[state_keys]]\nkey = {s}"),
            "state_keys[0].key: expected a string, found a number",
        ),
    ] {
        let error = said("t.toml", &text);
        assert!(error.starts_with(&format!("error: {start}\n")), "{error}");
    }
    for (name, text) in [
        ("t.yaml", format!("tokens:\n  - {s}\n")),
        (
            "t.yaml",
            format!("upstreams:\n  - command: sh\n    env:\n      API: {s}\n"),
        ),
        (
            "t.yaml",
            format!("upstreams:\n  - url: http://h/\n    headers:\n      - X\n      - {s}\n"),
        ),
        ("t.json", format!("{{\"tokens\":\n[\"{s}\"]}}")),
        ("t.json", format!("{{\"state_keys\": [{{\"key\":\n{s}}}]}}")),
        (
            "t.json",
            format!(
                "{{\"mcpServers\": {{\"a\": {{\"command\": \"sh\", \"env\":\n{{\"API\":\n{s}}}}}}}}}"
            ),
        ),
    ] {
        said(name, &text);
    }
}

/// The help leads to the form that is read.
#[test]
fn the_help_for_secrets_shows_a_table() {
    for (text, help) in [
        (
            "tokens = \"x\"",
            "= help: each token is a table: `[[tokens]]`",
        ),
        (
            "tokens = [\"x\"]",
            "= help: each token is a table: `[[tokens]]`",
        ),
        (
            "state_keys = [\"x\"]",
            "= help: each key is a table: `[[state_keys]]`",
        ),
    ] {
        let error = said("t.toml", text);
        assert!(error.contains(help), "{error}");
    }
}

#[test]
fn words_are_named_where_something_else_stands() {
    let error = said(
        "t.toml",
        "[[upstreams]]\nurl = \"http://h/\"\nmrtr = true\n",
    );
    let first = "error: upstreams[0].mrtr: expected `on` or `off`, found `true`\n";
    assert!(error.starts_with(first), "{error}");
}

/// I5: a header's name is no secret; who writes the whole header in its place has written one.
#[test]
fn i5_a_header_in_the_place_of_its_name_is_not_shown() {
    let text = format!("carried_headers = [\"Authorization: Bearer {SECRET}\"]");
    let error = said("t.toml", &text);
    let start = "error: carried_headers[0]: this is no header name";
    assert!(error.starts_with(start), "{error}");
}
