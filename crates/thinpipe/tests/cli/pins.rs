//! Servers that speak something else than the configuration says.

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Era, Upstream, rpc};

use crate::support::{Gateway, temporary};

/// A gateway with one upstream, written so.
fn in_front(upstream: &str) -> Gateway {
    let text = format!("listen = \"127.0.0.1:0\"\nadmin = \"off\"\n[[upstreams]]\n{upstream}\n");
    let file = temporary("pins.toml", &text);
    Gateway::start(&["serve", "--config", file.path()], &[])
}

/// What clients of both eras are told when they begin.
async fn errors(url: &str) -> [Value; 2] {
    let client = Client::new(url);
    let initialize = rpc::initialize(1, "2025-11-25");
    let sessions = client.post(&initialize).await.answer().await;
    let discover = rpc::modern(1, "server/discover", json!({}));
    let modern = client.post_modern(&discover).await.answer().await;
    [sessions, modern]
}

/// K1: who meets a server that is not of the `era` that the configuration says is told of that setting, and so
/// is the log, whatever the clients and the server speak.
#[tokio::test]
async fn k1_a_wrong_pin_is_named_where_it_hurts() {
    let http = [
        (Era::Sessions, "stateless", "seem"),
        (Era::Sessions, "http+sse", "does not seem to"),
        (Era::Stateless, "streamable", "seem"),
        (Era::Stateless, "http+sse", "does not seem to"),
    ];
    let programs = [
        (Era::Sessions, "modern", "seem"),
        (Era::Stateless, "legacy", "seem"),
    ];
    let at_url = http.map(|it| (it, false));
    for ((speaks, era, seems), is_program) in
        at_url.into_iter().chain(programs.map(|it| (it, true)))
    {
        let upstream = Upstream::start().await;
        upstream.set(|behaviour| behaviour.era = speaks);
        let reached = if is_program {
            let [program, argument] = upstream.program();
            format!("command = \"{program}\"\nargs = [\"{argument}\"]")
        } else {
            format!("url = \"{}\"", upstream.url())
        };
        let gateway = in_front(&format!("{reached}\nera = \"{era}\""));
        gateway
            .program
            .said_until("as its `era` says; it was not asked, as `thinpipe doctor");
        let setting = format!("`era = \"{era}\"`");
        for error in errors(&gateway.url).await {
            let text = error["error"]["message"].as_str().unwrap_or_default();
            for word in [&*setting, seems, "thinpipe doctor"] {
                assert!(text.contains(word), "{speaks:?} {era}: {error}");
            }
        }
        let said = gateway.program.said_until(&setting);
        let warned = said
            .lines()
            .any(|line| line.contains(" WARN ") && line.contains(&setting));
        assert!(warned, "{said}");
    }
}

/// What fails for another reason is not laid to a setting.
#[tokio::test]
async fn k1_a_server_that_is_down_speaks_against_no_pin() {
    for era in ["stateless", "streamable", "http+sse"] {
        let gateway = in_front(&format!(
            "url = \"http://127.0.0.1:1/mcp\"\nera = \"{era}\""
        ));
        for error in errors(&gateway.url).await {
            let text = error["error"]["message"].as_str().unwrap_or_default();
            assert!(!text.is_empty() && !text.contains("era"), "{era}: {error}");
        }
    }
}
