//! Headers set and removed.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use thinpipe_gateway::interceptor::{
    Action, Chain, ChainConfig, Direction, Interceptor, Interest, MessageContext,
};
use thinpipe_proto::rpc::Message;

use super::{TO_CLIENT, TO_UPSTREAM, chain, cx};

fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
    headers
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

#[test]
fn headers_are_set_and_removed_on_the_way_they_are_meant_for() {
    let chain = chain(
        r#"
        [[interceptors]]
        type = "headers"
        request.set = { Authorization = "Bearer upstream", x-team = "blue" }
        request.remove = ["X-Debug"]
        response.remove = ["server"]
        "#,
    );
    assert!(chain.wants_headers(TO_UPSTREAM) && chain.wants_headers(TO_CLIENT));
    assert!(!chain.wants_any(TO_UPSTREAM) && !chain.wants_any(TO_CLIENT));
    let given = map(&[
        ("x-team", "red"),
        ("x-debug", "1"),
        ("server", "s"),
        ("accept", "a/b"),
    ]);

    let mut headers = given.clone();
    chain
        .headers(&cx(TO_UPSTREAM, "tools/call"), &mut headers)
        .unwrap();
    let expected = [
        ("x-team", "blue"),
        ("authorization", "Bearer upstream"),
        ("server", "s"),
        ("accept", "a/b"),
    ];
    assert_eq!(headers, map(&expected));

    let mut headers = given.clone();
    chain
        .headers(&cx(TO_CLIENT, "tools/call"), &mut headers)
        .unwrap();
    assert_eq!(
        headers,
        map(&[("x-team", "red"), ("x-debug", "1"), ("accept", "a/b")])
    );
}

/// Removes everything and sets what it must not.
struct Greedy;

impl Interceptor for Greedy {
    fn name(&self) -> &str {
        "greedy"
    }

    fn interest(&self) -> Interest {
        Interest {
            request_headers: true,
            ..Interest::default()
        }
    }

    fn intercept(&self, _: &MessageContext, _: &Message) -> Action {
        Action::Continue
    }

    fn headers(&self, _: &MessageContext, headers: &mut HeaderMap) {
        assert!(!headers.contains_key("mcp-session-id"));
        headers.clear();
        headers.insert("mcp-session-id", HeaderValue::from_static("stolen"));
        headers.insert("connection", HeaderValue::from_static("close"));
        headers.insert("x-added", HeaderValue::from_static("1"));
    }
}

/// The transport's own headers are out of reach for interceptors of any kind; repeated values stay.
#[test]
fn no_interceptor_sees_or_changes_the_headers_of_the_transport() {
    let chain = Chain::build(&[], vec![Arc::new(Greedy)], &ChainConfig::default()).unwrap();
    let own = [
        ("mcp-session-id", "s1"),
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-param-tenant", "t"),
        ("accept", "a/b"),
        ("content-length", "9"),
    ];
    let mut headers = map(&own);
    headers.append("accept", HeaderValue::from_static("c/d"));
    headers.insert("x-other", HeaderValue::from_static("1"));
    let mut expected = map(&own);
    expected.append("accept", HeaderValue::from_static("c/d"));
    expected.insert("x-added", HeaderValue::from_static("1"));
    chain
        .headers(&cx(Direction::ToUpstream, "tools/call"), &mut headers)
        .unwrap();
    assert_eq!(headers, expected);
}
