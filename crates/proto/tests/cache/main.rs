//! Answers that may be given again (protocol notes 4.4).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod properties;

use std::time::{Duration, Instant};

use bytes::Bytes;
use thinpipe_proto::cache::{Cache, Found, Limits, MAX_QUESTION, Question, Ticket};
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::Principal;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn request(method: &str, params: &str) -> Message {
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    Message::parse(text.into()).expect("a message")
}

fn question(method: &str, params: &str) -> Question {
    Question::of(&request(method, params)).expect("a question")
}

fn response(result: &str) -> Message {
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
    Message::parse(text.into()).expect("a message")
}

fn error(code: i32) -> Message {
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"m"}}}}"#);
    Message::parse(text.into()).expect("a message")
}

fn notice(method: &str, params: &str) -> Message {
    let text =
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{params}}}"#);
    Message::parse(text.into()).expect("a message")
}

fn named(name: &str) -> Principal {
    Principal::Named(name.into())
}

const PUBLIC: &str = r#"{"resultType":"complete","tools":[],"ttlMs":1000,"cacheScope":"public"}"#;
const PRIVATE: &str = r#"{"resultType":"complete","tools":[],"ttlMs":1000,"cacheScope":"private"}"#;

/// A cache that is asked and answered by one who has the time.
struct Asked {
    cache: Cache,
    now: Instant,
}

impl Asked {
    fn new() -> Self {
        Self::within(Limits::default())
    }

    fn within(limits: Limits) -> Self {
        Self {
            cache: Cache::new(limits),
            now: Instant::now(),
        }
    }

    fn ticket(&mut self, question: Question, principal: &Principal) -> Ticket {
        match self.cache.ask(question, Some(principal), self.now) {
            Found::Nothing(ticket) => ticket,
            Found::Fresh(result) => panic!("nothing was to be found, and {result:?} was"),
        }
    }

    fn keep(&mut self, question: Question, principal: &Principal, result: &str) -> bool {
        let ticket = self.ticket(question, principal);
        self.cache.answered(ticket, &response(result), self.now)
    }

    fn find(&mut self, question: Question, principal: &Principal) -> Option<Bytes> {
        match self.cache.ask(question, Some(principal), self.now) {
            Found::Fresh(result) => Some(result),
            Found::Nothing(_) => None,
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }
}

fn tools() -> Question {
    question("tools/list", "{}")
}

/// R189
#[test]
fn r189_private_answers_are_their_principals_own() {
    let mut asked = Asked::new();
    assert!(asked.keep(tools(), &named("a"), PRIVATE));
    assert!(asked.find(tools(), &named("a")).is_some());
    assert!(asked.find(tools(), &named("b")).is_none());
    assert!(asked.find(tools(), &Principal::Anonymous).is_none());
    // A name is not nobody, however it is written.
    assert!(asked.keep(tools(), &Principal::Anonymous, PRIVATE));
    assert!(asked.find(tools(), &named("")).is_none());

    assert!(asked.keep(question("prompts/list", "{}"), &named("a"), PUBLIC));
    assert!(
        asked
            .find(question("prompts/list", "{}"), &named("b"))
            .is_some()
    );
}

/// R189: who cannot be told from others has nothing of his own.
#[test]
fn r189_who_cannot_be_told_from_others_gets_what_is_public() {
    let mut asked = Asked::new();
    let mut answered = |result: &str| {
        let Found::Nothing(ticket) = asked.cache.ask(tools(), None, asked.now) else {
            panic!("nothing is kept yet");
        };
        asked.cache.answered(ticket, &response(result), asked.now)
    };
    assert!(!answered(PRIVATE));
    assert!(answered(PUBLIC));
    assert!(asked.find(tools(), &named("a")).is_some());
    let found = asked.cache.ask(tools(), None, asked.now);
    assert!(matches!(found, Found::Fresh(_)));
}

/// R191: the time that is left, and nothing after it.
#[test]
fn r191_an_answer_is_given_with_the_time_that_is_left() {
    let mut asked = Asked::new();
    assert!(asked.keep(
        tools(),
        &named("a"),
        r#"{"resultType":"complete","n":1e400,"ttlMs":1000,"tools":[]}"#
    ));
    asked.pass(400);
    assert_eq!(
        asked.find(tools(), &named("a")).unwrap(),
        r#"{"resultType":"complete","n":1e400,"ttlMs":600,"tools":[]}"#
    );
    asked.pass(599);
    assert!(asked.find(tools(), &named("a")).is_some());
    asked.pass(1);
    assert!(asked.find(tools(), &named("a")).is_none());
    assert_eq!((asked.cache.len(), asked.cache.bytes()), (0, 0));
}

/// R190
#[test]
fn r190_what_makes_a_difference_is_part_of_the_question() {
    let mut asked = Asked::new();
    let list = |params| question("resources/list", params);
    assert!(asked.keep(list(r#"{"cursor":"1"}"#), &named("a"), PUBLIC));
    assert!(asked.find(list("{}"), &named("a")).is_none());
    assert!(asked.find(list(r#"{"cursor":"2"}"#), &named("a")).is_none());
    assert!(
        asked
            .find(list(r#"{"cursor":"1","n":1}"#), &named("a"))
            .is_none()
    );
    let templates = question("resources/templates/list", r#"{"cursor":"1"}"#);
    assert!(asked.find(templates, &named("a")).is_none());
    let same = list(r#"{"_meta":{"traceparent":"x"}, "c\u0075rsor":"\u0031"}"#);
    assert!(asked.find(same, &named("a")).is_some());

    for never in [
        request("tools/call", "{}"),
        request("prompts/get", "{}"),
        request("completion/complete", "{}"),
        request("subscriptions/listen", "{}"),
        request("resources/read", r#"{"uri":"a","inputResponses":{}}"#),
        request("resources/read", r#"{"uri":"a","requestState":null}"#),
        request(
            "resources/read",
            &format!(r#"{{"uri":"{}"}}"#, "x".repeat(MAX_QUESTION)),
        ),
        request("tools/list", r#"{"x":{"a":1,"a":2}}"#),
        Message::parse(bytes(r#"{"jsonrpc":"2.0","method":"tools/list"}"#)).unwrap(),
    ] {
        assert_eq!(Question::of(&never), None, "{:?}", never.source());
    }
    let bare = Message::parse(bytes(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)).unwrap();
    assert_eq!(Question::of(&bare), Some(tools()));
}

/// Protocol notes 4.4: complete results with a time of their own, nothing else.
#[test]
fn what_says_nothing_of_being_kept_is_not() {
    for not_kept in [
        "{}",
        r#"{"ttlMs":1000,"cacheScope":"public"}"#,
        r#"{"resultType":"complete"}"#,
        r#"{"resultType":"complete","ttlMs":0}"#,
        r#"{"resultType":"complete","ttlMs":-5}"#,
        r#"{"resultType":"complete","ttlMs":"1000"}"#,
        r#"{"resultType":"complete","ttlMs":null}"#,
        r#"{"resultType":"complete","ttlMs":1e3}"#,
        r#"{"resultType":"input_required","ttlMs":1000,"inputRequests":{}}"#,
        r#"{"resultType":"task","ttlMs":1000}"#,
        r#"{"resultType":"complete","ttlMs":1,"ttlMs":1000}"#,
        "[]",
    ] {
        let mut asked = Asked::new();
        assert!(!asked.keep(tools(), &named("a"), not_kept), "{not_kept}");
        assert!(asked.cache.is_empty());
    }
    let mut asked = Asked::new();
    let ticket = asked.ticket(tools(), &named("a"));
    assert!(!asked.cache.answered(ticket, &error(-32603), asked.now));
    // The greatest number there is does no harm.
    let forever = r#"{"resultType":"complete","ttlMs":18446744073709551615}"#;
    assert!(asked.keep(tools(), &named("a"), forever));
    let served = asked.find(tools(), &named("a")).unwrap();
    assert_eq!(served, r#"{"resultType":"complete","ttlMs":86400000}"#);
}

/// R191
#[test]
fn r191_a_notice_takes_what_it_is_about() {
    let all = [
        tools(),
        question("prompts/list", "{}"),
        question("resources/list", "{}"),
        question("resources/templates/list", "{}"),
        question("resources/read", r#"{"uri":"file:///a/b"}"#),
        question("server/discover", "{}"),
    ];
    for (method, params, gone) in [
        ("tools/list_changed", "{}", &[0][..]),
        ("prompts/list_changed", "{}", &[1]),
        ("resources/list_changed", "{}", &[2, 3]),
        ("resources/updated", r#"{"uri":"file:///a/b"}"#, &[4]),
        ("resources/updated", r#"{"uri":"file:///a/b/c"}"#, &[4]),
        ("resources/updated", r#"{"uri":"file:///a"}"#, &[]),
        // Another one, whose name only begins so.
        ("resources/updated", r#"{"uri":"file:///a/bc"}"#, &[]),
        ("resources/updated", "{}", &[4]),
        ("message", "{}", &[]),
    ] {
        let mut asked = Asked::new();
        for (index, question) in all.iter().enumerate() {
            let result = if index % 2 == 0 { PUBLIC } else { PRIVATE };
            assert!(asked.keep(question.clone(), &named("a"), result));
        }
        asked.cache.notified(&notice(method, params));
        for (index, question) in all.iter().enumerate() {
            let found = asked.find(question.clone(), &named("a")).is_some();
            assert_eq!(found, !gone.contains(&index), "{method} {params} {index}");
        }
    }
}

/// R140: a refused call makes the lists go that it may have been made by, not those of other principals.
#[test]
fn r140_a_doubt_is_about_the_lists_of_one_principal() {
    let mut asked = Asked::new();
    let page = || question("tools/list", r#"{"cursor":"2"}"#);
    let prompts = || question("prompts/list", "{}");
    assert!(asked.keep(tools(), &named("a"), PRIVATE));
    assert!(asked.keep(tools(), &named("b"), PRIVATE));
    assert!(asked.keep(page(), &named("b"), PUBLIC));
    assert!(asked.keep(prompts(), &named("a"), PRIVATE));
    asked.cache.doubt_tools(&named("a"));
    assert!(asked.find(tools(), &named("a")).is_none());
    assert!(asked.find(page(), &named("b")).is_none());
    assert!(asked.find(tools(), &named("b")).is_some());
    assert!(asked.find(prompts(), &named("a")).is_some());
}

/// R191: an answer that was on its way when the list changed may be of the time before.
#[test]
fn r191_an_answer_that_a_notice_overtook_is_not_kept() {
    let mut asked = Asked::new();
    let ticket = asked.ticket(tools(), &named("a"));
    asked.cache.notified(&notice("tools/list_changed", "{}"));
    assert!(!asked.cache.answered(ticket, &response(PUBLIC), asked.now));
    let ticket = asked.ticket(tools(), &named("a"));
    asked.cache.notified(&notice("prompts/list_changed", "{}"));
    assert!(asked.cache.answered(ticket, &response(PUBLIC), asked.now));
    let ticket = asked.ticket(question("server/discover", "{}"), &named("a"));
    asked.cache.clear();
    assert!(!asked.cache.answered(ticket, &response(PUBLIC), asked.now));
    assert!(asked.cache.is_empty());
}

/// Protocol notes 4.4: an invalid cursor drops all pages of that list.
#[test]
fn an_invalid_cursor_drops_all_pages() {
    let page = |cursor: &str| question("tools/list", &format!(r#"{{"cursor":"{cursor}"}}"#));
    let prompts = || question("prompts/list", "{}");
    let mut asked = Asked::new();
    for kept in [tools(), page("1"), prompts()] {
        assert!(asked.keep(kept, &named("a"), PUBLIC));
    }
    let ticket = asked.ticket(page("2"), &named("a"));
    asked.cache.answered(ticket, &error(-32603), asked.now);
    assert_eq!(asked.cache.len(), 3);
    let ticket = asked.ticket(page("2"), &named("a"));
    asked.cache.answered(ticket, &error(-32602), asked.now);
    assert_eq!(asked.cache.len(), 1);
    assert!(asked.find(prompts(), &named("a")).is_some());
    let missing = question("resources/read", r#"{"uri":"a"}"#);
    let ticket = asked.ticket(missing, &named("a"));
    asked.cache.answered(ticket, &error(-32602), asked.now);
    assert_eq!(asked.cache.len(), 1);
}

#[test]
fn beyond_the_bounds_what_was_not_used_for_longest_goes() {
    let page = |n: usize| question("tools/list", &format!(r#"{{"cursor":"{n}"}}"#));
    let mut asked = Asked::within(Limits {
        entries: 3,
        bytes: 1 << 20,
    });
    for n in 0..3 {
        assert!(asked.keep(page(n), &named("a"), PUBLIC));
    }
    assert!(asked.find(page(0), &named("a")).is_some());
    assert!(asked.keep(page(3), &named("a"), PUBLIC));
    assert!(asked.find(page(1), &named("a")).is_none());
    assert!(asked.find(page(0), &named("a")).is_some());
    assert_eq!(asked.cache.len(), 3);

    let mut asked = Asked::within(Limits {
        entries: 1000,
        bytes: 8000,
    });
    let large = format!(
        r#"{{"resultType":"complete","ttlMs":9,"x":"{}"}}"#,
        "x".repeat(1000)
    );
    assert!(
        !asked.keep(page(0), &named("a"), &large),
        "too large a share"
    );
    for n in 0..100 {
        assert!(asked.keep(page(n), &named("a"), PUBLIC));
        assert!(asked.cache.bytes() <= 8000);
    }
    assert!(asked.cache.len() > 1);
    let mut none = Asked::within(Limits {
        entries: 0,
        bytes: 8000,
    });
    assert!(!none.keep(page(0), &named("a"), PUBLIC));
}
