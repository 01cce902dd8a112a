#![expect(
    clippy::disallowed_methods,
    reason = "the tasks of a test end with its runtime"
)]

use std::sync::atomic::AtomicUsize;

use http::StatusCode;
use thinpipe_transport::body::Body;
use thinpipe_transport::server::{Answer, Content};
use thinpipe_transport::upstream::UpstreamConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::checks::{check, health_of};
use super::*;

use crate::config::{Reached, UpstreamSpec};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1/mcp";

fn route(url: &str, change: impl FnOnce(&mut UpstreamSpec)) -> Arc<Route> {
    let client = UpstreamConfig::new("up".into(), url.parse().unwrap());
    let mut spec = UpstreamSpec::new("/mcp", client);
    change(&mut spec);
    Route::alone(spec)
}

fn health(route: &Route) -> Arc<Health> {
    health_of(route, 0).unwrap()
}

/// A server that gives every request this answer (none: it is silent) and counts the requests.
async fn server(answer: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = Arc::clone(&counting);
            tokio::spawn(async move {
                let mut request = vec![0; 8192];
                // The requests are small: each comes in one piece.
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    count.fetch_add(1, Ordering::Relaxed);
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (url, count)
}

/// B5: requests that fail ask for checks, checks do not; and whoever asks, a second lies between two.
#[tokio::test(start_paused = true)]
async fn b5_checks_of_a_dead_server_keep_their_distance() {
    let route = route(NOWHERE, |spec| spec.health.failures = 1000);
    let watching = tokio::spawn(watch(Arc::downgrade(&route), 0, CancellationToken::new()));
    for _ in 0..600 {
        health(&route).suspect();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let failures = health(&route).failures.load(Ordering::Relaxed);
    assert!(
        (2..=61).contains(&failures),
        "{failures} checks in a minute"
    );
    watching.abort();
}

/// B5: readiness does not wait for the interval.
#[tokio::test(start_paused = true)]
async fn b5_the_first_check_is_made_at_once() {
    let route = route(NOWHERE, |spec| {
        spec.health.interval = Duration::from_secs(24 * 3600);
    });
    let watching = tokio::spawn(watch(Arc::downgrade(&route), 0, CancellationToken::new()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!route.is_healthy());
    watching.abort();
}

/// A31: who watches a route does not keep it.
#[tokio::test(start_paused = true)]
async fn a31_a_watched_route_is_dropped_at_once() {
    let route = route(NOWHERE, |_| {});
    let weak = Arc::downgrade(&route);
    let watching = tokio::spawn(watch(weak.clone(), 0, CancellationToken::new()));
    // On the half second, between checks that are made on the second.
    tokio::time::sleep(Duration::from_millis(20_500)).await;
    drop(route);
    assert_eq!(weak.strong_count(), 0);
    watching.await.unwrap();
}

/// B5: without checks, idle connections are still closed when their time has come.
#[tokio::test]
async fn b5_idle_connections_are_closed_without_checks() {
    let (url, _) = server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let route = route(&url, |spec| spec.health.interval = Duration::ZERO);
    assert_eq!(check(&route, 0).await, Some(Ok(())));
    assert_eq!(route.upstream().unwrap().stats().idle, 1);
    tokio::time::pause();
    let watching = tokio::spawn(watch(Arc::downgrade(&route), 0, CancellationToken::new()));
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(route.upstream().unwrap().stats().idle, 0);
    watching.abort();
}

/// B5: a server that fails over a request it does not know is alive; a proxy before a dead one, and
/// one that says nothing, are not.
#[tokio::test]
async fn b5_only_what_no_server_says_is_a_failure() {
    for (answer, alive) in [
        ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 501 What\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n", true),
        (
            "HTTP/1.1 503 Busy\r\nContent-Type: application/json\r\nContent-Length: 64\r\n\r\n\
             {\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-1,\"message\":\"busy\"}}",
            true,
        ),
        ("HTTP/1.1 502 Proxy\r\nContent-Length: 4\r\n\r\ngone", false),
        ("HTTP/1.1 503 Proxy\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.1 504 Proxy\r\nContent-Length: 2\r\n\r\n{}", false),
        ("", false),
    ] {
        let (url, _) = server(answer).await;
        let route = route(&url, |spec| {
            spec.health.timeout = Duration::from_millis(500);
        });
        let checked = check(&route, 0).await.map(|checked| checked.is_ok());
        assert_eq!(checked, Some(alive), "{answer:?}");
    }
    let cause = check(&route(NOWHERE, |_| {}), 0)
        .await
        .unwrap()
        .unwrap_err();
    assert!(cause.starts_with("connecting to up failed: "), "{cause}");
}

/// K1, R199: the server is asked once for all who wait, who all learn why it failed; whoever comes later
/// asks again.
#[tokio::test]
async fn k1_who_waits_for_a_probe_shares_its_failure() {
    let refusal = "HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n";
    let outage = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
    for (answer, reason) in [
        (refusal, Reason::Auth),
        (outage, Reason::Unavailable),
        ("", Reason::Timeout),
    ] {
        let (url, count) = server(answer).await;
        let route = route(&url, |spec| {
            let Reached::Http(http) = &mut spec.reached else {
                unreachable!("it has a URL");
            };
            http.client.first_byte_timeout = Duration::from_millis(300);
        });
        for round in 1..=2 {
            let mut waiting = tokio::task::JoinSet::new();
            for _ in 0..20 {
                let route = Arc::clone(&route);
                waiting.spawn(async move { route.find_out().await });
            }
            for found in waiting.join_all().await {
                assert_eq!(found.unwrap_err().reason, reason);
            }
            assert_eq!(count.load(Ordering::Relaxed), round, "{reason:?}");
        }
    }
    let nowhere = route(NOWHERE, |_| {}).find_out().await;
    assert_eq!(nowhere.unwrap_err().reason, Reason::Unavailable);
}

/// 5.1 "Era flip": where no session can be opened any more, the next request asks anew; a modern verdict says
/// nothing of sessions.
#[tokio::test]
async fn k1_sessions_that_do_not_open_contradict_a_verdict() {
    for (speaks, stays) in [(LEGACY, false), (modern(), true)] {
        let route = route(NOWHERE, |_| {});
        route.era().learn(verdict(speaks));
        route.era().contradicted_sessions();
        assert_eq!(route.era().known().is_some(), stays);
    }
}

fn verdict(speaks: Speaks) -> Verdict {
    Verdict {
        speaks,
        server_name: None,
        server_version: None,
        discover: None,
    }
}

const LEGACY: Speaks = Speaks::Legacy {
    revision: Revision::NEWEST_LEGACY,
};

/// K1, 1.5: what no server of 2026-07-28 answers contradicts a modern verdict, and no other.
#[test]
fn k1_a_contradicted_verdict_falls() {
    let answer = |status, content, body: &'static str| {
        let body = Body::Full(bytes::Bytes::from_static(body.as_bytes()));
        Answer::new(StatusCode::from_u16(status).unwrap(), content, body)
    };
    let denies = |status, body| denies_revision(&answer(status, Content::Json, body));
    for (status, body, expected) in [
        (
            404,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}"#,
            false,
        ),
        (404, "{}", true),
        // The servers of the TypeScript SDK, of the Python SDK, and of others.
        (
            400,
            r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Server not initialized"},"id":null}"#,
            true,
        ),
        (
            400,
            r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Bad Request: Missing session ID"}}"#,
            true,
        ),
        (422, "Unexpected message, expect initialize request", true),
        (405, "", true),
        (
            400,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"what?"}}"#,
            false,
        ),
        (
            400,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32020,"message":"what?"}}"#,
            false,
        ),
        (
            200,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"what?"}}"#,
            false,
        ),
        (401, "who?", false),
        (429, "later", false),
        (502, "gone", false),
    ] {
        assert_eq!(denies(status, body), expected, "{status} {body}");
    }
    assert!(denies_revision(&answer(
        404,
        Content::Other(None),
        "nothing"
    )));
    assert!(!denies_revision(&Answer::accepted()));

    let era = Era::default();
    era.learn(verdict(LEGACY));
    era.contradicted();
    assert!(era.known().is_some());
    era.learn(verdict(modern()));
    era.contradicted();
    assert!(era.known().is_none());
}

/// K1: a client that has its requests answered so does not make the gateway ask for each of them.
#[tokio::test(start_paused = true)]
async fn k1_contradictions_in_a_row_count_once() {
    let era = Era::default();
    for _ in 0..3 {
        era.learn(verdict(modern()));
        era.contradicted();
        assert!(era.known().is_none());
        for _ in 0..9 {
            era.learn(verdict(modern()));
            tokio::time::advance(contradiction::BETWEEN / 10).await;
            era.contradicted();
            assert!(era.known().is_some());
        }
        tokio::time::advance(contradiction::BETWEEN / 10).await;
    }
}

/// B5, K1: a server that was down may be another one when it answers again, of whatever revision.
#[tokio::test]
async fn k1_a_server_that_comes_back_is_asked_anew() {
    for speaks in [LEGACY, modern()] {
        let route = route(NOWHERE, |spec| spec.health.failures = 2);
        route.era().learn(verdict(speaks));
        for (checked, is_known) in [
            (Ok(()), true),
            (Err("gone".to_owned()), true),
            // It was not down yet.
            (Ok(()), true),
            (Err("gone".to_owned()), true),
            (Err("gone".to_owned()), true),
            (Ok(()), false),
        ] {
            health(&route).record(checked, &route, 0);
            assert_eq!(route.era().known().is_some(), is_known);
        }
    }
}

/// 1.3: what the configuration says is not asked, and answers do not change it.
#[tokio::test]
async fn a_pinned_binding_is_never_probed() {
    for (pin, modern, legacy) in [
        (Binding::Sessions, false, Some(Revision::NEWEST_LEGACY)),
        (Binding::Stateless, true, None),
        (Binding::HttpSse, false, None),
    ] {
        let route = route(NOWHERE, |spec| {
            let Reached::Http(http) = &mut spec.reached else {
                unreachable!("it has a URL");
            };
            http.pin = Some(pin);
        });
        route.era().contradicted();
        let verdict = route.probe().await.unwrap();
        assert_eq!(verdict.modern().is_some(), modern, "{pin}");
        assert_eq!(verdict.legacy(), legacy, "{pin}");
    }
}

/// B5: why an upstream is down is said to its clients, without what its URL holds.
#[tokio::test(start_paused = true)]
async fn b5_who_asks_a_dead_upstream_hears_why() {
    let route = route("http://u:hunter2@127.0.0.1:1/mcp?key=hunter2", |spec| {
        spec.health.failures = 1;
    });
    assert_eq!(route.url().unwrap(), "http://127.0.0.1:1/mcp");
    let checked = check(&route, 0).await.unwrap();
    health(&route).record(checked, &route, 0);
    assert!(!route.is_healthy());
    let cause = health(&route).cause();
    let answer = Failure::unhealthy(None, route.name(), &cause);
    let Body::Full(body) = &answer.body else {
        panic!("an error is at hand");
    };
    let text = String::from_utf8_lossy(body);
    let said = "up does not answer its health checks: connecting to up failed: ";
    assert!(text.contains(said), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}
