//! Upstreams that say things on the stream of the request they belong to (Streamable HTTP).

use super::*;

fn ask(id: &str) -> String {
    request_with(id, "elicitation/create", r#"{"message":"?"}"#)
}

fn is_refusal(lines: &[String], id: &str, code: i32) -> bool {
    let start = format!(r#"up: {{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"#);
    lines.len() == 1 && lines[0].starts_with(&start)
}

/// Row "initialize" of a session for all: what comes with its request can be asked, in the words of the revision.
#[test]
fn a_shared_session_declares_what_streams_can_tell() {
    for (revision, declared) in [
        (
            "2025-11-25",
            r#"{"sampling":{},"elicitation":{"form":{},"url":{}}}"#,
        ),
        ("2025-06-18", r#"{"sampling":{},"elicitation":{}}"#),
        ("2025-03-26", r#"{"sampling":{}}"#),
    ] {
        let mut pipe = Pipe::over(Channel::Streams, Sharing::Shared, Limits::default(), 1);
        let wanted =
            |capabilities: &str| initialize("1", capabilities).replace("2025-06-18", revision);
        assert_eq!(
            pipe.says(1, &wanted(r#"{"roots":{}}"#)),
            [format!("up: {}", wanted(declared))]
        );
    }
}

/// Invariants 9, 10: a question is for the client whose request it came with, if that can be asked so.
#[test]
fn a_question_of_a_shared_session_goes_with_its_request() {
    let mut pipe = Pipe::over(Channel::Streams, Sharing::Shared, Limits::default(), 2);
    pipe.says(1, &initialize("0", r#"{"elicitation":{}}"#));
    pipe.hears(&initialized(1, "{}"));
    pipe.says(2, &initialize("0", "{}"));
    for member in [1, 2] {
        pipe.says(member, &request("1", "tools/call"));
    }
    assert_eq!(
        pipe.hears_on("2", &ask("7")),
        [format!("1/1: {}", ask("7"))]
    );
    assert!(
        is_refusal(&pipe.hears_on("3", &ask("8")), "8", -32601),
        "it cannot"
    );
    assert!(
        is_refusal(&pipe.hears(&ask("9")), "9", -32603),
        "of no request"
    );
    // Nor for the only client there is.
    pipe.leaves(2);
    assert!(is_refusal(&pipe.hears(&ask("10")), "10", -32603));
    assert_eq!(pipe.hears_on("2", &result("2", "{}")).len(), 1);
    assert!(
        is_refusal(&pipe.hears_on("2", &ask("11")), "11", -32603),
        "it is over"
    );
}

/// One client: what comes on no stream of a request is about none.
#[test]
fn what_comes_on_the_standalone_stream_is_about_no_request() {
    let mut pipe = Pipe::over(Channel::Streams, Sharing::PerClient, Limits::default(), 1)
        .declaring(EVERYTHING);
    pipe.says(1, &request("1", "tools/call"));
    assert_eq!(pipe.hears(&ask("7")), [format!("1/-: {}", ask("7"))]);
    assert_eq!(
        pipe.hears_on("2", &ask("8")),
        [format!("1/1: {}", ask("8"))]
    );
    let line = notification("notifications/message", "{}");
    assert_eq!(pipe.hears(&line), [format!("1/-: {line}")]);
    assert_eq!(pipe.hears_on("2", &line), [format!("1/1: {line}")]);
}

/// Protocol notes 5.1, "Cancel": what comes after it on the request's stream is for nobody.
#[test]
fn nothing_is_said_for_the_sake_of_a_cancelled_request() {
    let mut pipe = Pipe::over(Channel::Streams, Sharing::PerClient, Limits::default(), 1)
        .declaring(EVERYTHING);
    pipe.says(1, &request("1", "tools/call"));
    pipe.says(1, &cancelled("1", ""));
    assert!(is_refusal(&pipe.hears_on("2", &ask("7")), "7", -32603));
    let line = notification("notifications/message", "{}");
    assert!(pipe.hears_on("2", &line).is_empty());
    assert_eq!(pipe.machine.dropped().notifications, 1);
}

/// Protocol notes 5.8: a session that another process has begun goes on, with ids that that has not used.
#[test]
fn a_session_of_another_process_goes_on() {
    let mut machine = Reframing::new(Config {
        channel: Channel::Streams,
        ids_after: 1 << 40,
        ..Config::default()
    });
    machine.attach(MemberId(1)).unwrap();
    let offered = Bytes::from_static(br#"{"tools":{"listChanged":true}}"#);
    machine.resume(MemberId(1), &EVERYTHING.into(), &offered);
    let (start, now) = (Instant::now(), Instant::now());
    let mut pipe = Pipe {
        machine,
        start,
        now,
    };
    let asked = pipe.says(1, &request("1", "tools/call"));
    assert_eq!(
        asked,
        [format!("up: {}", request("1099511627777", "tools/call"))]
    );
    assert_eq!(pipe.hears(&ask("7")), [format!("1/-: {}", ask("7"))]);
    pipe.machine.gap();
    assert_eq!(pipe.actions().len(), 1);
}

/// After a gap everybody reads again what it may read, and what it is subscribed to.
#[test]
fn a_gap_is_told_as_changes() {
    let offered =
        r#"{"tools":{"listChanged":true},"prompts":{},"resources":{"listChanged":false}}"#;
    let changed =
        |list: &str| format!(r#"{{"jsonrpc":"2.0","method":"notifications/{list}/list_changed"}}"#);
    let mut pipe = Pipe::over(Channel::Streams, Sharing::Shared, Limits::default(), 3);
    for member in 1..=2 {
        pipe.says(member, &initialize("0", "{}"));
        pipe.hears(&initialized(1, offered));
    }
    let subscribe = request_with("1", "resources/subscribe", r#"{"uri":"a"}"#);
    pipe.says(2, &subscribe);
    pipe.hears(&result("2", "{}"));
    pipe.machine.gap();
    let updated = notification("notifications/resources/updated", r#"{"uri":"a"}"#);
    assert_eq!(
        pipe.actions(),
        [
            format!("1/-: {}", changed("tools")),
            format!("2/-: {}", changed("tools")),
            format!("2/-: {updated}"),
        ]
    );
}
