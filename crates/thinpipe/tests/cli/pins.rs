//! Servers that speak something else than the configuration says, or something else than they did.

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Era, Upstream, rpc};

use crate::support::{Gateway, Sample, temporary};

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

const ANSWERED: &str = "an upstream has answered";

/// How often it is said that an upstream has answered; what the gateway has said is read to its end.
fn told(mut gateway: Gateway) -> (usize, String) {
    let (code, said) = gateway.program.stop();
    assert_eq!(code, Some(0), "{said}");
    (said.matches(ANSWERED).count(), said)
}

/// K1: what a server speaks that was down at the start is said once it is known, and no more than once.
#[tokio::test]
async fn k1_what_is_found_out_later_is_said() {
    let upstream = Upstream::start().await;
    let reached = format!(
        "url = \"{}\"\nhealth = {{ interval = \"0s\" }}",
        upstream.url()
    );
    let initialize = rpc::initialize(1, "2025-11-25");
    let discover = rpc::modern(1, "server/discover", json!({}));
    for is_modern in [true, false] {
        upstream.die().await;
        let gateway = in_front(&reached);
        gateway.program.said_until("whatever it turns out to speak");
        upstream.come_back();
        let client = Client::new(&gateway.url);
        for _ in 0..2 {
            let answer = match is_modern {
                true => client.post_modern(&discover).await.answer().await,
                false => client.post(&initialize).await.answer().await,
            };
            assert!(answer["result"].is_object(), "{answer}");
        }
        // Its session is ended at the server, which runs here.
        let stopping = tokio::task::spawn_blocking(|| told(gateway));
        let (times, said) = stopping.await.unwrap();
        assert_eq!(times, 1, "{said}");
        let speaks = if is_modern {
            "stateless"
        } else {
            "Streamable HTTP with sessions"
        };
        let line = said.lines().find(|line| line.contains(ANSWERED)).unwrap();
        assert!(line.contains(" INFO ") && line.contains(speaks), "{line}");
    }
}

/// What the start has said is not said again.
#[test]
fn k1_what_is_known_from_the_start_is_said_there() {
    let sample = Sample::start();
    let gateway = Gateway::to(&sample, &[]);
    gateway.program.said_until("serves clients of");
    let discover = rpc::modern(1, "server/discover", json!({}));
    let answer = gateway.post(&discover.body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let (times, said) = told(gateway);
    assert_eq!(times, 0, "{said}");
}
