//! Proxies in front of the gateway: who is believed, and who is told.

use thinpipe_testkit::{Upstream, rpc};

use crate::support::{Gateway, Mode, Settings, start};

const TRUSTING: &str = "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]";

/// The line that the exchange log has of a call of this tool.
async fn logged(gateway: &Gateway, tool: &str) -> String {
    gateway
        .process
        .line_with(&format!("tools/call {tool} "))
        .await
}

/// C16: from a trusted proxy the client's address is taken; from others it is what anybody could write.
#[tokio::test]
async fn c16_the_log_shows_the_client_behind_trusted_proxies() {
    let settings = Settings::of_gateway(TRUSTING);
    let (_upstream, trusting, client) = start(Mode::Pass, settings).await;
    let (_other, wary, stranger) = start(Mode::Pass, Settings::default()).await;
    for (tool, list, shown) in [
        ("one", "203.0.113.7", Some("203.0.113.7")),
        (
            "spoofed",
            "1.1.1.1, 203.0.113.7, 10.0.0.2",
            Some("203.0.113.7"),
        ),
        ("v6", "[2001:db8::7]:4711", Some("2001:db8::7")),
        ("unreadable", "203.0.113.7, who knows", None),
    ] {
        for (gateway, client, shown) in [(&trusting, &client, shown), (&wary, &stranger, None)] {
            let call = client.post(rpc::call(tool, tool));
            let call = call
                .header("X-Forwarded-For", list)
                .header("Forwarded", "for=192.0.2.99");
            call.await.read_to_end().await;
            let line = logged(gateway, tool).await;
            let expected = match shown {
                Some(client) => format!(" client={client} peer=127.0.0.1:"),
                None => " peer=127.0.0.1:".to_owned(),
            };
            assert!(line.contains(&expected), "{line}");
            assert_eq!(line.contains("client="), shown.is_some(), "{line}");
        }
    }
    let refused = client.post(rpc::call(1, "one"));
    let refused = refused
        .replace("Host", "evil.example")
        .header("X-Forwarded-For", "203.0.113.9");
    assert_eq!(refused.await.status, 403);
    let line = trusting.process.line_with("a request was refused").await;
    assert!(
        line.contains("client=203.0.113.9 peer=127.0.0.1:"),
        "{line}"
    );
}

/// C16: the standard header, where the configuration says so.
#[tokio::test]
async fn c16_the_header_to_believe_is_chosen() {
    let trusting = format!("{TRUSTING}\nforwarded_header = \"forwarded\"\nlog.format = \"json\"");
    let settings = Settings::of_gateway(&trusting);
    let (_upstream, gateway, client) = start(Mode::Pass, settings).await;
    let call = client
        .post(rpc::call(1, "standard"))
        .header("X-Forwarded-For", "192.0.2.99")
        .header(
            "Forwarded",
            "for=1.1.1.1;proto=https, for=\"[2001:db8::7]:4711\"",
        );
    call.await.read_to_end().await;
    let line = gateway.process.line_with("\"name\":\"standard\"").await;
    assert!(
        line.contains("\"client\":\"2001:db8::7\",\"peer\":\"127.0.0.1:"),
        "{line}"
    );
}

/// C15, C16: a server is told of clients if it is to be, by us and never by them, whatever is asked.
#[tokio::test]
async fn c16_servers_are_told_who_asks_if_they_are_to_be() {
    const APPEND: &str = "forwarded = \"append\"";
    for (gateway, upstream, told) in [
        ("", "", None),
        (TRUSTING, "", None),
        ("", APPEND, Some(("127.0.0.1", "for=127.0.0.1"))),
        (
            TRUSTING,
            APPEND,
            Some((
                "203.0.113.7, 10.0.0.2, 127.0.0.1",
                "for=203.0.113.7, for=10.0.0.2, for=127.0.0.1",
            )),
        ),
    ] {
        let settings = Settings { gateway, upstream };
        let server = Upstream::start().await;
        let gateway = Gateway::start(&server, Mode::Pass, settings).await;
        gateway.knows_upstream().await;
        let client = gateway.stranger();
        let list = "1.1.1.1, 203.0.113.7, 10.0.0.2";
        let before = server.record().received.len();
        let opened = client
            .post(rpc::initialize(0, "2025-11-25"))
            .header("X-Forwarded-For", list)
            .await;
        let session = opened.header("Mcp-Session-Id").expect("a session");
        for request in [
            client.post(rpc::call(1, "echo")),
            client.get(),
            client.delete(),
        ] {
            let request = request.header("Mcp-Session-Id", session);
            let request = request.header("X-Forwarded-For", list);
            let request = request.header("X-Real-IP", "1.1.1.1");
            assert_eq!(request.await.status, 200);
        }
        let modern = client.post_modern(&rpc::modern_call(2, "echo"));
        modern.header("X-Forwarded-For", list).await;
        let record = server.record();
        let asked: Vec<_> = record.received[before..]
            .iter()
            .filter(|request| request.rpc_method() != Some("server/discover"))
            .collect();
        assert_eq!(asked.len(), 5, "{record}");
        assert!(asked.iter().any(|request| request.is_modern()));
        for request in asked {
            let text = request.to_text();
            let header = |name: &str| {
                let mut lines = text.lines();
                lines.find_map(|line| {
                    let (found, value) = line.split_once(": ")?;
                    found.eq_ignore_ascii_case(name).then_some(value)
                })
            };
            assert_eq!(header("x-forwarded-for"), told.map(|told| told.0), "{text}");
            assert_eq!(header("forwarded"), told.map(|told| told.1), "{text}");
            assert_eq!(header("x-real-ip"), None, "{text}");
            assert!(!text.contains("1.1.1.1"), "{text}");
        }
    }
}
