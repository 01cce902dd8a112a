//! Servers that speak something else than the configuration says, or something else than they did.

use serde_json::{Value, json};
use thinpipe_testkit::{Client, Era, Script, Upstream, rpc};

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
        if !["stateless", "modern"].contains(&era) {
            // The session that it needs is not opened, whatever is asked first.
            let client = Client::new(&gateway.url);
            let call = rpc::modern_call(1, "echo");
            let error = client.post_modern(&call).await.answer().await;
            let text = error["error"]["message"].as_str().unwrap_or_default();
            assert!(text.contains(&setting), "{speaks:?} {era}: {error}");
        }
        let (_, said) = stopped(gateway).await;
        let warned = said
            .lines()
            .filter(|line| line.contains(" WARN ") && line.contains(AGAINST));
        let warned: Vec<_> = warned.collect();
        assert!(
            warned.len() == 1 && warned[0].contains(&setting),
            "once, however many clients: {said}"
        );
    }
}

/// How the log says that a server speaks against its pin.
const AGAINST: &str = "speaks against the configuration";

/// What the gateway has said. What it ends at the server runs here.
async fn stopped(gateway: Gateway) -> (usize, String) {
    let stopping = tokio::task::spawn_blocking(|| told(gateway));
    stopping.await.expect("it stops")
}

/// Everything that clients and log were told, where the server is what its `era` says.
async fn with_a_right_pin(era: &str, speaks: Era, ask: impl AsyncFnOnce(&Upstream, &str)) {
    let upstream = Upstream::start().await;
    upstream.set(|behaviour| {
        behaviour.era = speaks;
        behaviour.full = true;
    });
    let gateway = in_front(&format!("url = \"{}\"\nera = \"{era}\"", upstream.url()));
    ask(&upstream, &gateway.url).await;
    let (_, said) = stopped(gateway).await;
    let blames = said.contains(AGAINST) || said.contains("era = ");
    assert!(!blames, "{era}: {said}");
}

/// The error that a client of 2026-07-28 gets for this call.
async fn refused(client: &Client, call: &rpc::Modern, headers: &[(&str, &str)]) -> (u16, Value) {
    let posting = headers
        .iter()
        .fold(client.post_modern(call), |posting, (name, value)| {
            posting.header(name, value)
        });
    let mut response = posting.await;
    let error = response.answer().await["error"].clone();
    let text = error["message"].as_str().unwrap_or_default();
    assert!(!text.is_empty() && !text.contains("era = "), "{error}");
    (response.status, error)
}

/// K1, R124: what is wrong with a call is not laid to a setting, whoever refuses it.
#[tokio::test]
async fn k1_a_wrong_header_speaks_against_no_pin() {
    for (era, speaks) in [
        ("stateless", Era::Stateless),
        ("stateless", Era::Both),
        ("streamable", Era::Sessions),
    ] {
        with_a_right_pin(era, speaks, async |_, url| {
            let client = Client::new(url);
            let list = rpc::modern(1, "tools/list", json!({}));
            client.post_modern(&list).await.answer().await;
            let params = json!({"name": "region", "arguments": {"region": "eu"}});
            let call = rpc::modern(2, "tools/call", params);
            let wrong = [("Mcp-Param-Region", "us")];
            let (status, error) = refused(&client, &call, &wrong).await;
            assert_eq!((status, error["code"].as_i64()), (400, Some(-32020)));
        })
        .await;
    }
}

/// K1, R237: neither is what a client cannot be asked for, nor that its call is redirected.
#[tokio::test]
async fn k1_a_refused_call_speaks_against_no_pin() {
    with_a_right_pin("streamable", Era::Sessions, async |upstream, url| {
        let client = Client::new(url);
        let forms = rpc::modern_call(1, "needs_url").declaring(&json!({"elicitation": {}}));
        let (status, error) = refused(&client, &forms, &[]).await;
        assert_eq!((status, error["code"].as_i64()), (400, Some(-32021)));
        let elsewhere = Script::status(307).header("Location", "http://127.0.0.1:1/mcp");
        upstream.on("tools/call", elsewhere);
        let mut client = Client::new(url);
        client.initialize("2025-11-25").await;
        let answer = client.post(rpc::call(2, "echo")).await.answer().await;
        let text = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(!text.is_empty() && !text.contains("era = "), "{answer}");
    })
    .await;
}

/// K1: a server of sessions need have no standalone stream.
#[tokio::test]
async fn k1_a_server_without_a_standalone_stream_speaks_against_no_pin() {
    with_a_right_pin("streamable", Era::Sessions, async |upstream, url| {
        // Without a word, as most do it.
        upstream.on("GET", Script::status(405).header("Allow", "POST, DELETE"));
        let mut client = Client::new(url);
        client.initialize("2025-11-25").await;
        assert_eq!(client.get().await.status, 405);
    })
    .await;
}

/// R245: what a server says of sessions in its own errors stays what it said.
#[tokio::test]
async fn r245_errors_of_a_pinned_server_keep_their_text() {
    for (era, speaks) in [("stateless", Era::Stateless), ("streamable", Era::Sessions)] {
        with_a_right_pin(era, speaks, async |upstream, url| {
            let mut client = Client::new(url);
            if speaks == Era::Sessions {
                client.initialize("2025-11-25").await;
            }
            for (code, text) in [
                (-32000, "no session with the database"),
                (-32600, "the tool is not initialized"),
                (-32601, "Method not found"),
            ] {
                upstream.on("tools/call", Script::error(400, code, text));
                let mut response = match speaks {
                    Era::Sessions => client.post(rpc::call(2, "echo")).await,
                    _ => client.post_modern(&rpc::modern_call(2, "echo")).await,
                };
                let error = response.answer().await["error"].clone();
                assert_eq!(response.status, 400, "{error}");
                assert_eq!(error, json!({"code": code, "message": text}));
            }
        })
        .await;
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
        let (times, said) = stopped(gateway).await;
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

/// K1: it is said once too where clients of both eras come, whoever is first; what is not known of the server's
/// sessions is no reason to say it again.
#[tokio::test]
async fn k1_what_it_speaks_is_said_once_to_clients_of_both_eras() {
    let upstream = Upstream::start().await;
    upstream.set(|behaviour| behaviour.era = Era::Sessions);
    let reached = format!(
        "url = \"{}\"\nhealth = {{ interval = \"0s\" }}",
        upstream.url()
    );
    let initialize = rpc::initialize(1, "2025-11-25");
    let discover = rpc::modern(1, "server/discover", json!({}));
    for order in [[false, true], [true, false]] {
        upstream.die().await;
        let gateway = in_front(&reached);
        gateway.program.said_until("whatever it turns out to speak");
        upstream.come_back();
        let client = Client::new(&gateway.url);
        for is_modern in order {
            let answer = match is_modern {
                true => client.post_modern(&discover).await.answer().await,
                false => client.post(&initialize).await.answer().await,
            };
            assert!(answer["result"].is_object(), "{answer}");
        }
        let (times, said) = stopped(gateway).await;
        assert_eq!(times, 1, "{order:?}: {said}");
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
