//! What an interceptor may do with a message, and in which order they are asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use thinpipe_gateway::interceptor::{
    Action, Carrier, Chain, ChainConfig, Direction, Interceptor, Interest, MessageContext, Methods,
    Outcome, PauseGate, Rejection, Step,
};
use thinpipe_proto::rpc::Message;
use tokio::time::{self, Instant};

use super::{
    Call, TO_CLIENT, TO_UPSTREAM, chain, custom, cx, finish, forwarded, message, run, text,
};

/// Every place where a message can be, with a message and what it is replaced by.
fn places() -> Vec<(&'static str, MessageContext, Message, &'static str)> {
    let place = |direction, carrier, method: &str| MessageContext {
        carrier,
        ..cx(direction, method)
    };
    let notification =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress": 1}}"#;
    let other = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":2}}"#;
    let response = r#"{ "id":"a","jsonrpc":"2.0","result":{"n":1.0} }"#;
    vec![
        (
            "request",
            place(TO_UPSTREAM, Carrier::Body, "tools/call"),
            message(r#"{"jsonrpc":"2.0","id":0,"method":"tools/call","params":{"name":"a"}}"#),
            r#"{"jsonrpc":"2.0","id":0,"method":"tools/call","params":{"name":"b"}}"#,
        ),
        (
            "JSON response",
            place(TO_CLIENT, Carrier::Body, "tools/call"),
            message(response),
            r#"{"jsonrpc":"2.0","id":"a","result":{"n":2.0}}"#,
        ),
        (
            "SSE event with a response",
            place(TO_CLIENT, Carrier::Event, "tools/call"),
            message(response),
            r#"{"jsonrpc":"2.0","id":"a","result":{"n":2.0}}"#,
        ),
        (
            "SSE event with a request",
            place(TO_CLIENT, Carrier::Event, "roots/list"),
            message(r#"{"jsonrpc":"2.0","id":-1,"method":"roots/list"}"#),
            r#"{"jsonrpc":"2.0","id":-1,"method":"roots/list","params":{}}"#,
        ),
        (
            "SSE event with a notification",
            place(TO_CLIENT, Carrier::Event, "notifications/progress"),
            message(notification),
            other,
        ),
        (
            "notification from the client",
            place(TO_UPSTREAM, Carrier::Body, "notifications/progress"),
            message(notification),
            other,
        ),
        (
            "error response",
            place(TO_CLIENT, Carrier::Body, "tools/call"),
            message(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"x"}}"#),
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"y"}}"#,
        ),
    ]
}

fn rejection() -> Rejection {
    Rejection {
        code: -32001,
        message: "no".into(),
        reason: "test".into(),
    }
}

/// What an interceptor answers, whether that waits, and what has to come of it.
type Case = (
    &'static str,
    bool,
    Box<dyn Fn() -> Action + Send + Sync>,
    Check,
);
type Check = fn(&Outcome, &Message, &str) -> bool;

fn is_forwarded(outcome: &Outcome, message: &Message, _: &str) -> bool {
    // The very same bytes, not equal ones.
    matches!(outcome, Outcome::Forward(same)
        if same.source().as_ptr() == message.source().as_ptr() && same.source() == message.source())
}

fn is_changed(outcome: &Outcome, _: &Message, replacement: &str) -> bool {
    matches!(outcome, Outcome::Changed(changed) if text(changed) == replacement)
}

fn is_rejected(outcome: &Outcome, _: &Message, _: &str) -> bool {
    matches!(outcome, Outcome::Rejected(given) if *given == rejection())
}

/// E1, E2: each action for each kind of message and each way it travels. A rejected response is an
/// outcome with an error, which the client gets under the request's id.
#[tokio::test(start_paused = true)]
async fn e1_each_action_is_defined_for_each_kind_of_message() {
    for (place, cx, original, replacement) in places() {
        let replace = Bytes::from_static(replacement.as_bytes());
        let delay = |action: fn(Bytes) -> Action| {
            let replace = replace.clone();
            move || {
                let replace = replace.clone();
                Action::Later(Box::pin(async move {
                    time::sleep(Duration::from_secs(4)).await;
                    action(replace)
                }))
            }
        };
        let now = replace.clone();
        let actions: Vec<Case> = vec![
            (
                "continue",
                false,
                Box::new(|| Action::Continue),
                is_forwarded,
            ),
            (
                "replace",
                false,
                Box::new(move || Action::Replace(now.clone())),
                is_changed,
            ),
            (
                "reject",
                false,
                Box::new(|| Action::Reject(rejection())),
                is_rejected,
            ),
            (
                "delay, continue",
                true,
                Box::new(delay(|_| Action::Continue)),
                is_forwarded,
            ),
            (
                "delay, replace",
                true,
                Box::new(delay(Action::Replace)),
                is_changed,
            ),
            (
                "delay, reject",
                true,
                Box::new(delay(|_| Action::Reject(rejection()))),
                is_rejected,
            ),
        ];
        for (name, waits, action, check) in actions {
            let chain = custom(Call("test", move |_: &MessageContext, _: &Message| {
                action()
            }));
            let start = Instant::now();
            let step = chain.run(&cx, original.clone());
            assert_eq!(matches!(step, Step::Wait(_)), waits, "{place}: {name}");
            let outcome = match step {
                Step::Done(outcome) => outcome,
                Step::Wait(outcome) => outcome.await,
            };
            assert!(
                check(&outcome, &original, replacement),
                "{place}: {name}: {outcome:?}"
            );
            assert_eq!(
                start.elapsed().as_secs(),
                if waits { 4 } else { 0 },
                "{place}: {name}"
            );
        }
    }
}

/// E1: pause and resume, for each kind of message.
#[tokio::test(start_paused = true)]
async fn e1_a_paused_message_goes_on_when_the_gate_is_opened() {
    for (place, cx, original, _) in places() {
        let gate = PauseGate::new();
        let inside = gate.clone();
        let chain = custom(Call("gate", move |_: &MessageContext, _: &Message| {
            inside.action()
        }));
        assert!(
            matches!(chain.run(&cx, original.clone()), Step::Done(_)),
            "{place}"
        );

        gate.pause();
        assert!(gate.is_paused());
        let Step::Wait(mut waiting) = chain.run(&cx, original.clone()) else {
            panic!("{place}: not paused");
        };
        let early = time::timeout(Duration::from_secs(3), &mut waiting).await;
        assert!(early.is_err(), "{place}: went on while it was paused");
        gate.resume();
        let outcome = waiting.await;
        assert!(
            is_forwarded(&outcome, &original, ""),
            "{place}: {outcome:?}"
        );
    }
}

/// E1: a gate that nobody opens has the outcome of a time-out.
#[tokio::test(start_paused = true)]
async fn e1_nothing_is_paused_for_longer_than_the_time_out() {
    let gate = PauseGate::new();
    gate.pause();
    let chain = custom(Call("gate", move |_: &MessageContext, _: &Message| {
        gate.action()
    }));
    let (_, cx, original, _) = places().remove(0);
    let outcome = finish(&chain, &cx, &original).await;
    assert!(
        matches!(outcome, Outcome::Rejected(rejection) if rejection.reason == "interceptor_timeout")
    );
}

/// E9: a stream is driven one message at a time, so that a pause in the middle keeps the order; the
/// interceptor sees the numbers rise.
#[tokio::test(start_paused = true)]
async fn e9_order_is_kept_across_delays() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let chain = custom(Call("order", move |cx: &MessageContext, _: &Message| {
        record.lock().unwrap().push(cx.sequence);
        if cx.sequence % 3 == 1 {
            return Action::Later(Box::pin(async {
                time::sleep(Duration::from_secs(1)).await;
                Action::Continue
            }));
        }
        Action::Continue
    }));
    let mut out = Vec::new();
    for sequence in 0..10 {
        let cx = MessageContext {
            sequence,
            ..cx(TO_CLIENT, "notifications/progress")
        };
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"n":{sequence}}}}}"#
        );
        let given = message(&text);
        out.push(forwarded(finish(&chain, &cx, &given).await) == text);
    }
    assert_eq!(out, [true; 10]);
    assert_eq!(*seen.lock().unwrap(), (0..10).collect::<Vec<u64>>());
}

/// Messages to the upstream meet interceptors first to last, messages to the client last to first,
/// also after one of them had to wait; each sees what the one before it made.
#[tokio::test(start_paused = true)]
async fn the_first_interceptor_is_nearest_to_the_client() {
    let order = Arc::new(Mutex::new(String::new()));
    let interceptor = |name: &'static str, waits: bool| -> Arc<dyn Interceptor> {
        let order = Arc::clone(&order);
        Arc::new(Call(name, move |_: &MessageContext, message: &Message| {
            order.lock().unwrap().push_str(name);
            let appended = text(message).replace('#', &format!("{name}#"));
            if !waits {
                return Action::Replace(appended.into());
            }
            Action::Later(Box::pin(async move {
                time::sleep(Duration::from_millis(1)).await;
                Action::Replace(appended.into())
            }))
        }))
    };
    let extra = vec![
        interceptor("a", false),
        interceptor("b", true),
        interceptor("c", true),
        interceptor("d", false),
    ];
    let chain = Chain::build(&[], extra, &ChainConfig::default()).unwrap();
    let note = message(r##"{"jsonrpc":"2.0","method":"x","params":{"by":"#"}}"##);
    for (direction, expected) in [(TO_UPSTREAM, "abcd"), (TO_CLIENT, "dcba")] {
        order.lock().unwrap().clear();
        let outcome = finish(&chain, &cx(direction, "x"), &note).await;
        let Outcome::Changed(out) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(
            text(&out).contains(&format!("\"{expected}#\"")),
            "{}",
            text(&out)
        );
        assert_eq!(*order.lock().unwrap(), expected);
    }
    let counted: Vec<_> = chain
        .stats()
        .iter()
        .map(|s| (s.name.clone(), s.seen, s.changed))
        .collect();
    let expected: Vec<_> = ["a", "b", "c", "d"]
        .map(|name| (name.to_string(), 2, 2))
        .into();
    assert_eq!(counted, expected);
}

/// Wants what it is told to want; counts what it is shown.
struct Wants(Interest, Arc<Mutex<Vec<String>>>);

impl Interceptor for Wants {
    fn name(&self) -> &str {
        "wants"
    }

    fn interest(&self) -> Interest {
        self.0.clone()
    }

    fn intercept(&self, cx: &MessageContext, _: &Message) -> Action {
        let method = cx.method.as_deref().unwrap_or("?");
        self.1.lock().unwrap().push(method.to_string());
        Action::Continue
    }
}

/// E8, C14: what nobody wants is not asked for, and is not shown to those who did not ask.
#[test]
fn e8_nobody_sees_what_nobody_asked_for() {
    let shown = Arc::new(Mutex::new(Vec::new()));
    let wants = |to_upstream, to_client| -> Arc<dyn Interceptor> {
        let interest = Interest {
            to_upstream,
            to_client,
            ..Interest::default()
        };
        Arc::new(Wants(interest, Arc::clone(&shown)))
    };
    let only = |names: &[&str]| Methods::Only(names.iter().map(ToString::to_string).collect());

    let nothing = Chain::build(&[], Vec::new(), &ChainConfig::default()).unwrap();
    assert!(nothing.is_empty());
    let chain = Chain::build(
        &[],
        vec![
            wants(only(&["tools/list", "tools/call"]), Methods::None),
            wants(only(&["resources/*"]), Methods::None),
        ],
        &ChainConfig::default(),
    )
    .unwrap();
    for direction in [TO_UPSTREAM, TO_CLIENT] {
        assert!(!nothing.wants_any(direction) && !nothing.wants(direction, Some("ping")));
        assert!(!nothing.wants_headers(direction) && !chain.wants_headers(direction));
    }
    assert!(!chain.is_empty() && chain.wants_any(TO_UPSTREAM) && !chain.wants_any(TO_CLIENT));
    // A response that may be anything may be what somebody asked for.
    assert!(chain.wants(TO_UPSTREAM, None) && !chain.wants(TO_CLIENT, None));
    for (method, wanted) in [
        ("tools/list", true),
        ("tools/call", true),
        ("resources/read", true),
        ("tools/cal", false),
        ("tools/calls", false),
        ("resources", false),
        ("ping", false),
    ] {
        assert_eq!(chain.wants(TO_UPSTREAM, Some(method)), wanted, "{method}");
        assert!(!chain.wants(TO_CLIENT, Some(method)));
        let request = message(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#
        ));
        let outcome = run(&chain, &cx(TO_UPSTREAM, method), &request);
        assert!(is_forwarded(&outcome, &request, ""));
        assert_eq!(!shown.lock().unwrap().is_empty(), wanted, "{method}");
        // Only one of the two asked for it.
        assert!(shown.lock().unwrap().len() <= 1);
        shown.lock().unwrap().clear();
    }

    let all = Chain::build(
        &[],
        vec![wants(Methods::None, Methods::All)],
        &ChainConfig::default(),
    );
    let all = all.unwrap();
    assert!(all.wants(TO_CLIENT, None) && !all.wants(TO_UPSTREAM, Some("ping")));
}

/// A rename is seen by those who come after it, since policies go by the name.
#[test]
fn a_renamed_request_is_judged_by_its_new_name() {
    let chain = chain(
        r#"
        [[interceptors]]
        type = "rules"
        rules = [{ then = [{ set = { pointer = "/params/name", value = "delete" } }] }]
        [[interceptors]]
        type = "access"
        tools.deny = ["delete"]
        "#,
    );
    let cx = super::named(TO_UPSTREAM, "tools/call", "list");
    let outcome = run(&chain, &cx, &super::call("list", "{}"));
    assert_eq!(super::rejected(outcome).reason, "access_denied");
}

/// Clones are one chain: what one counts, all show.
#[test]
fn clones_share_their_counters() {
    let chain = chain(r#"interceptors = [{ type = "log" }, { type = "log", level = "debug" }]"#);
    let note = message(r#"{"jsonrpc":"2.0","method":"x"}"#);
    for direction in [Direction::ToUpstream, Direction::ToClient] {
        assert_eq!(
            forwarded(run(&chain.clone(), &cx(direction, "x"), &note)),
            text(&note)
        );
    }
    let stats: Vec<_> = chain
        .stats()
        .into_iter()
        .map(|s| (s.name, s.seen))
        .collect();
    assert_eq!(stats, [("log".to_string(), 2), ("log#2".to_string(), 2)]);
}
