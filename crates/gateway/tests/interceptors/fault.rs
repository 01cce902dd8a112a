//! Delays and failures on purpose.

use std::time::Duration;

use thinpipe_gateway::interceptor::{Outcome, Step};
use tokio::time::Instant;

use super::{
    TO_CLIENT, TO_UPSTREAM, call, chain, cx, finish, forwarded, message, named, rejected, response,
    run,
};

/// Which of so many calls fail.
fn failing(toml: &str, calls: usize) -> Vec<usize> {
    let chain = chain(toml);
    let given = call("slow_a", "{}");
    let cx = named(TO_UPSTREAM, "tools/call", "slow_a");
    let fails = |_: &usize| matches!(run(&chain, &cx, &given), Outcome::Rejected(_));
    (1..=calls).filter(fails).collect()
}

#[test]
fn every_nth_message_fails() {
    let toml = r#"interceptors = [{ type = "fault", every = 3, fail = {} }]"#;
    assert_eq!(failing(toml, 10), [3, 6, 9]);
    let toml = r#"interceptors = [{ type = "fault", fail = {} }]"#;
    assert_eq!(failing(toml, 3), [1, 2, 3]);
    let toml = r#"interceptors = [{ type = "fault", probability = 0, fail = {} }]"#;
    assert_eq!(failing(toml, 100), [0; 0]);
}

#[test]
fn a_seed_repeats_the_dice() {
    let toml = |seed: u64| {
        format!(
            r#"interceptors = [{{ type = "fault", probability = 0.25, seed = {seed}, fail = {{}} }}]"#
        )
    };
    let first = failing(&toml(7), 4_000);
    assert_eq!(first, failing(&toml(7), 4_000));
    assert_ne!(first, failing(&toml(8), 4_000));
    // Six standard deviations around a thousand.
    assert!((836..=1_164).contains(&first.len()), "{}", first.len());
}

#[tokio::test(start_paused = true)]
async fn messages_are_delayed_within_the_range() {
    let chain = chain(
        r#"
        [[interceptors]]
        type = "fault"
        names = ["slow_*"]
        delay_ms = 100
        delay_max_ms = 103
        fail = { code = -32050, message = "overloaded" }
        "#,
    );
    let cx = named(TO_UPSTREAM, "tools/call", "slow_a");
    let mut delays = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let start = Instant::now();
        let rejection = rejected(finish(&chain, &cx, &call("slow_a", "{}")).await);
        assert_eq!(
            (rejection.code, &*rejection.message),
            (-32050, "overloaded")
        );
        delays.insert(start.elapsed());
    }
    assert_eq!(delays, (100..=103).map(Duration::from_millis).collect());
    // Others are not meant.
    let other = named(TO_UPSTREAM, "tools/call", "fast");
    assert!(matches!(
        chain.run(&other, call("fast", "{}")),
        Step::Done(Outcome::Forward(_))
    ));
}

#[test]
fn responses_can_fail_and_errors_stay_what_they_are() {
    let chain = chain(
        r#"interceptors = [{ type = "fault", direction = "to_client", methods = ["tools/*"], fail = {} }]"#,
    );
    assert!(!chain.wants_any(TO_UPSTREAM) && !chain.wants(TO_CLIENT, Some("prompts/get")));
    let cx = cx(TO_CLIENT, "tools/call");
    let rejection = rejected(run(&chain, &cx, &response("{}")));
    assert_eq!(rejection.reason, "fault_injected");
    let error = message(r#"{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"m"}}"#);
    forwarded(run(&chain, &cx, &error));
}
