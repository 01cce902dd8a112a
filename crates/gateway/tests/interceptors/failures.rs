//! Interceptors that do not behave.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http::HeaderMap;
use thinpipe_gateway::interceptor::{
    Action, Chain, ChainConfig, Failure, Interceptor, Interest, MessageContext, Methods, OnFailure,
    Outcome,
};
use thinpipe_proto::rpc::{Message, code};
use tokio::time::Instant;

use super::{
    Call, TO_CLIENT, TO_UPSTREAM, call, cx, finish, forwarded, message, rejected, run, text,
};

const REJECT: OnFailure = OnFailure::Reject;
const CONTINUE: OnFailure = OnFailure::Continue;

fn settings(on_failure: OnFailure) -> ChainConfig {
    ChainConfig {
        timeout_ms: 2_000,
        on_failure,
    }
}

/// A chain of the interceptor under test between two that count.
fn chain_of(on_failure: OnFailure, action: impl Fn() -> Action + Send + Sync + 'static) -> Chain {
    let extra: Vec<Arc<dyn Interceptor>> = vec![
        Arc::new(Call("before", |_: &MessageContext, _: &Message| {
            Action::Continue
        })),
        Arc::new(Call("failing", move |_: &MessageContext, _: &Message| {
            action()
        })),
        Arc::new(Call("after", |_: &MessageContext, _: &Message| {
            Action::Continue
        })),
    ];
    Chain::build(&[], extra, &settings(on_failure)).unwrap()
}

fn later(action: impl Future<Output = Action> + Send + 'static) -> Action {
    Action::Later(Box::pin(action))
}

/// Checks that the failure is counted and has the outcome that the configuration says.
async fn check(
    what: &str,
    action: impl Fn() -> Action + Clone + Send + Sync + 'static,
    reason: &str,
) {
    for on_failure in [REJECT, CONTINUE] {
        let chain = chain_of(on_failure, action.clone());
        let original = call("a", "{}");
        let outcome = finish(&chain, &cx(TO_UPSTREAM, "tools/call"), &original).await;
        let stats = chain.stats();
        assert_eq!(stats[1].failed, 1, "{what}");
        assert_eq!(stats[1].rejected + stats[1].changed, 0, "{what}");
        match on_failure {
            OnFailure::Reject => {
                let rejection = rejected(outcome);
                assert_eq!(rejection.code, code::INTERNAL_ERROR, "{what}");
                assert_eq!(rejection.reason, reason, "{what}");
                assert!(
                    rejection.message.contains("failing"),
                    "{what}: {}",
                    rejection.message
                );
                assert_eq!(stats[2].seen, 0, "{what}");
            }
            OnFailure::Continue => {
                assert_eq!(forwarded(outcome), text(&original), "{what}");
                assert_eq!(stats[2].seen, 1, "{what}");
            }
        }
    }
}

/// E5
#[tokio::test(start_paused = true)]
async fn e5_a_panic_is_contained_and_has_the_configured_outcome() {
    check("at once", || panic!("secret"), "interceptor_failed").await;
    check(
        "later",
        || later(async { panic!("secret") }),
        "interceptor_failed",
    )
    .await;
    let nested = || later(async { later(async { panic!("secret") }) });
    check("later, twice", nested, "interceptor_failed").await;
    let slow = || {
        later(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            panic!("secret")
        })
    };
    check("after a delay", slow, "interceptor_failed").await;
}

/// E4
#[tokio::test(start_paused = true)]
async fn e4_a_time_out_has_the_configured_outcome() {
    let start = Instant::now();
    check("never", || later(pending()), "interceptor_timeout").await;
    let nested = || later(async { later(async { later(pending()) }) });
    check("never, nested", nested, "interceptor_timeout").await;
    assert_eq!(
        start.elapsed(),
        Duration::from_secs(8),
        "each waits for its two seconds"
    );
}

/// E4: the time is for one interceptor, not for the chain.
#[tokio::test(start_paused = true)]
async fn e4_each_interceptor_has_its_own_time() {
    let slow = || -> Arc<dyn Interceptor> {
        Arc::new(Call("slow", |_: &MessageContext, _: &Message| {
            later(async {
                tokio::time::sleep(Duration::from_millis(1_900)).await;
                Action::Continue
            })
        }))
    };
    let chain = Chain::build(&[], vec![slow(), slow(), slow()], &settings(REJECT)).unwrap();
    let start = Instant::now();
    let outcome = finish(&chain, &cx(TO_UPSTREAM, "tools/call"), &call("a", "{}")).await;
    assert!(matches!(outcome, Outcome::Forward(_)));
    assert_eq!(start.elapsed(), Duration::from_millis(5_700));
}

/// E5: a replacement has to be the same message with other contents.
#[tokio::test(start_paused = true)]
async fn e5_a_replacement_that_is_another_message_is_never_passed_on() {
    for wrong in [
        "",
        "{",
        "[]",
        r#"{"jsonrpc":"2.0"}"#,
        r#"{"jsonrpc":"2.0","id":7,"result":{}}"#,
        r#"{"jsonrpc":"2.0","method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":"7","method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":8,"method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#,
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","name":"b"}}"#,
        r#"[{"jsonrpc":"2.0","id":7,"method":"tools/call"}]"#,
    ] {
        check(
            wrong,
            || Action::Replace(wrong.into()),
            "interceptor_failed",
        )
        .await;
        check(
            wrong,
            || later(async { Action::Replace(wrong.into()) }),
            "interceptor_failed",
        )
        .await;
    }
}

/// E5: the same for responses; an error does not become a result, nor a result an error.
#[test]
fn e5_a_response_stays_a_response_of_its_kind() {
    let result = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
    let error = r#"{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"m"}}"#;
    let note = r#"{"jsonrpc":"2.0","method":"tools/call"}"#;
    for (given, replaced) in [
        (result, error),
        (error, result),
        (result, note),
        (note, result),
    ] {
        let chain = chain_of(REJECT, || Action::Replace(replaced.into()));
        let outcome = run(&chain, &cx(TO_CLIENT, "tools/call"), &message(given));
        assert_eq!(rejected(outcome).reason, "interceptor_failed", "{replaced}");
    }
}

/// E5: a response that an interceptor failed on is answered with an error, too (E2).
#[tokio::test(start_paused = true)]
async fn e2_a_failure_on_a_response_is_an_error_for_the_client() {
    let chain = chain_of(REJECT, || panic!("secret"));
    let response = message(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
    let rejection = rejected(finish(&chain, &cx(TO_CLIENT, "tools/call"), &response).await);
    assert_eq!(rejection.reason, "interceptor_failed");
    assert!(!rejection.message.contains("secret"));
}

/// E5: fatal is refused and skipped goes on, whatever is configured; recoverable is what is
/// configured.
#[tokio::test(start_paused = true)]
async fn e5_each_kind_of_failure_has_its_outcome() {
    let recoverable = || Action::Fail(Failure::Recoverable("db".into()));
    check("recoverable", recoverable, "interceptor_failed").await;
    check(
        "recoverable, later",
        move || later(async move { recoverable() }),
        "interceptor_failed",
    )
    .await;
    for on_failure in [REJECT, CONTINUE] {
        let chain = chain_of(on_failure, || Action::Fail(Failure::Fatal("db".into())));
        let original = call("a", "{}");
        let outcome = finish(&chain, &cx(TO_UPSTREAM, "tools/call"), &original).await;
        assert_eq!(rejected(outcome).reason, "interceptor_failed");

        let chain = chain_of(on_failure, || Action::Fail(Failure::Skip("no".into())));
        let outcome = finish(&chain, &cx(TO_UPSTREAM, "tools/call"), &original).await;
        assert_eq!(forwarded(outcome), text(&original));
        assert_eq!((chain.stats()[1].failed, chain.stats()[2].seen), (1, 1));
    }
}

/// E5: an interceptor that asks for it is asked again, and the message is shown to the others once.
#[tokio::test(start_paused = true)]
async fn e5_a_retry_asks_again_within_the_time_out() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let chain = chain_of(REJECT, move || match counted.fetch_add(1, SeqCst) {
        0..3 => Action::Fail(Failure::Retry {
            after: Duration::from_millis(500),
            reason: "busy".into(),
        }),
        _ => Action::Continue,
    });
    let start = Instant::now();
    let outcome = finish(&chain, &cx(TO_UPSTREAM, "tools/call"), &call("a", "{}")).await;
    assert!(matches!(outcome, Outcome::Forward(_)));
    assert_eq!(start.elapsed(), Duration::from_millis(1_500));
    assert_eq!(attempts.load(SeqCst), 4);
    let stats = chain.stats();
    assert_eq!((stats[0].seen, stats[1].seen, stats[2].seen), (1, 1, 1));

    let retry = || {
        Action::Fail(Failure::Retry {
            after: Duration::ZERO,
            reason: "busy".into(),
        })
    };
    check("retry without end", retry, "interceptor_timeout").await;
}

struct BadHeaders;

impl Interceptor for BadHeaders {
    fn name(&self) -> &str {
        "bad-headers"
    }

    fn interest(&self) -> Interest {
        Interest {
            to_upstream: Methods::None,
            request_headers: true,
            ..Interest::default()
        }
    }

    fn intercept(&self, _: &MessageContext, _: &Message) -> Action {
        Action::Continue
    }

    fn headers(&self, _: &MessageContext, headers: &mut HeaderMap) {
        headers.clear();
        panic!("secret");
    }
}

/// E5
#[test]
fn e5_a_panic_on_headers_is_contained_and_undone() {
    let mut given = HeaderMap::new();
    given.insert("x-kept", "1".parse().unwrap());
    for on_failure in [REJECT, CONTINUE] {
        let chain = Chain::build(&[], vec![Arc::new(BadHeaders)], &settings(on_failure)).unwrap();
        let mut headers = given.clone();
        let result = chain.headers(&cx(TO_UPSTREAM, "tools/call"), &mut headers);
        assert_eq!(result.is_err(), on_failure == REJECT);
        assert_eq!(headers, given);
        assert_eq!(chain.stats()[0].failed, 1);
    }
}
