//! Log lines of one upstream session for several client sessions (protocol notes 5.2.1, row "log level").

use super::*;

fn level(id: &str, level: &str) -> String {
    request_with(id, "logging/setLevel", &format!(r#"{{"level":"{level}"}}"#))
}

fn line(level: &str) -> String {
    notification(
        "notifications/message",
        &format!(r#"{{"level":"{level}","data":1}}"#),
    )
}

fn empty(member: u64, id: &str) -> String {
    format!("{member}/{id}!: {}", result(id, "{}"))
}

fn up(message: &str) -> String {
    format!("up: {message}")
}

/// The upstream gets the most verbose level, and each client what it asked for.
#[test]
fn the_most_verbose_level_goes_up_and_each_is_filtered_by_its_own() {
    let mut pipe = Pipe::pooled(Channel::Pipe, 3, "{}");
    assert_eq!(
        pipe.hears(&line("debug")).len(),
        3,
        "nobody has said anything yet"
    );
    assert_eq!(
        pipe.says(1, &level("1", "warning")),
        [up(&level("2", "warning"))]
    );
    assert!(
        pipe.says(2, &level("1", "debug")).is_empty(),
        "one at a time"
    );
    assert_eq!(
        pipe.hears(&result("2", "{}")),
        [empty(1, "1"), up(&level("3", "debug"))]
    );
    assert_eq!(pipe.hears(&result("3", "{}")), [empty(2, "1")]);
    let to = |members: &[u64], text: &str| -> Vec<String> {
        let line = line(text);
        members.iter().map(|m| format!("{m}/-: {line}")).collect()
    };
    assert_eq!(pipe.hears(&line("debug")), to(&[2], "debug"));
    // Who has said nothing hears what is usual, not what others want.
    assert_eq!(pipe.hears(&line("info")), to(&[2, 3], "info"));
    assert_eq!(pipe.hears(&line("error")), to(&[1, 2, 3], "error"));
    // Nothing new for the upstream.
    assert_eq!(pipe.says(3, &level("1", "error")), [empty(3, "1")]);
    assert_eq!(pipe.hears(&line("warning")), to(&[1, 2], "warning"));
    assert_eq!(
        pipe.tries(1, &level("9", "loud")),
        Err(Refused::UnknownLevel { parameter: "level" })
    );
}

/// It is lowered when the next one asks, and not before.
#[test]
fn the_level_is_lowered_lazily() {
    let mut pipe = Pipe::pooled(Channel::Pipe, 2, "{}");
    pipe.says(1, &level("1", "debug"));
    pipe.hears(&result("2", "{}"));
    assert!(pipe.leaves(1).is_empty());
    assert!(pipe.hears(&line("debug")).is_empty());
    assert_eq!(
        pipe.says(2, &level("1", "error")),
        [up(&level("3", "error"))]
    );
}

/// Refused by the upstream, or without an answer of it, it is asked for again.
#[test]
fn a_level_that_was_not_set_is_not_taken_for_set() {
    let mut pipe = Pipe::pooled(Channel::Pipe, 2, "{}");
    pipe.says(1, &level("1", "debug"));
    let no = |id: &str| error(id, -32602, "no");
    assert_eq!(pipe.hears(&no("2")), [format!("1/1!: {}", no("1"))]);
    assert_eq!(
        pipe.says(2, &level("1", "debug")),
        [up(&level("3", "debug"))]
    );
    let lines = pipe.at(60 * SECOND);
    assert!(lines[0].starts_with("2/1!"), "{lines:?}");
    assert_eq!(
        pipe.says(2, &level("2", "debug")),
        [up(&level("4", "debug"))]
    );
}

/// Who leaves while its level is being set does not keep others from theirs.
#[test]
fn who_leaves_gives_up_its_turn() {
    let mut pipe = Pipe::pooled(Channel::Pipe, 3, "{}");
    pipe.says(1, &level("1", "debug"));
    pipe.says(2, &level("1", "info"));
    pipe.says(3, &level("1", "error"));
    pipe.leaves(1);
    pipe.leaves(2);
    assert_eq!(pipe.hears(&result("2", "{}")), [up(&level("4", "error"))]);
    assert_eq!(pipe.hears(&result("4", "{}")), [empty(3, "1")]);
    assert_eq!(pipe.machine.in_flight(), 0);
}

/// Invariant 9: on a session of all principals a line is for the request on whose stream it comes, or for nobody.
#[test]
fn lines_of_a_shared_session_go_with_their_request() {
    let mut pipe = Pipe::many(Channel::Streams, Sharing::Shared, 2, "{}");
    pipe.says(1, &level("1", "error"));
    pipe.hears(&result("2", "{}"));
    for member in [1, 2] {
        pipe.says(member, &request("1", "tools/call"));
    }
    let info = line("info");
    assert!(pipe.hears(&info).is_empty());
    assert!(pipe.hears_on("3", &info).is_empty(), "it wants errors only");
    assert_eq!(pipe.hears_on("4", &info), [format!("2/1: {info}")]);
    assert_eq!(pipe.machine.dropped().notifications, 2);
}
