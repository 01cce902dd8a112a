//! Values that need quotes, and what those are told who left them away.

use super::messages::wrong;

#[test]
fn text_without_quotes_is_told_to_have_them() {
    let mend = "text stands in quotes, as in `name = \"files\"`";
    for (text, message) in [
        (
            "listen = 127.0.0.1:8080\n",
            "this is not TOML: invalid float, expected nothing",
        ),
        (
            "listen = everywhere\n",
            "this is not TOML: string values must be quoted, expected literal string",
        ),
        (
            "[[upstreams]]\nurl = http://h/mcp\n",
            "this is not TOML: string values must be quoted, expected literal string",
        ),
    ] {
        wrong(text, message, mend);
    }
}

#[test]
fn a_duration_below_zero_is_told_what_one_looks_like() {
    wrong(
        "[[upstreams]]\nurl = \"http://h/mcp\"\nlist_ttl = \"-1s\"\n",
        "upstreams[0].list_ttl: expected a duration with its unit, such as \"500ms\", \"30s\", \"5m\" or \"24h\", found \"-1s\"",
        "write a number with its unit, in quotes, as in `\"30s\"`",
    );
}
