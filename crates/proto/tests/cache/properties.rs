//! Properties of the cache: a list of what the server said is the second opinion.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use thinpipe_proto::cache::{Cache, Found, Limits, Question, Ticket};
use thinpipe_proto::rpc::Message;
use thinpipe_proto::session::Principal;

const METHODS: [&str; 3] = ["tools/list", "prompts/list", "resources/read"];
const NOTICES: [&str; 3] = [
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/updated",
];
const LIMITS: Limits = Limits {
    entries: 4,
    bytes: 8 << 10,
};

#[derive(Debug, Clone)]
enum Step {
    /// Somebody asks; the answer comes later.
    Ask {
        who: usize,
        what: usize,
        page: u8,
    },
    /// The oldest question that waits, or a later one, is answered.
    Answer {
        which: usize,
        ttl: u64,
        public: bool,
    },
    Notice {
        what: usize,
    },
    Pass {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3usize, 0..3usize, 0..3u8)
            .prop_map(|(who, what, page)| Step::Ask { who, what, page }),
        4 => (0..4usize, 0..50u64, any::<bool>())
            .prop_map(|(which, ttl, public)| Step::Answer { which, ttl, public }),
        1 => (0..3usize).prop_map(|what| Step::Notice { what }),
        2 => (0..30u64).prop_map(|millis| Step::Pass { millis }),
    ]
}

/// What the server said, and to whom.
struct Said {
    who: usize,
    what: usize,
    page: u8,
    mark: u64,
    public: bool,
    until: Instant,
    /// A change has made it untrue.
    stale: bool,
}

struct Waiting {
    who: usize,
    what: usize,
    page: u8,
    ticket: Ticket,
    overtaken: bool,
}

fn principal(who: usize) -> Principal {
    match who {
        0 => Principal::Anonymous,
        who => Principal::Named(who.to_string().into()),
    }
}

fn message(text: String) -> Message {
    Message::parse(text.into()).unwrap()
}

fn number(result: &[u8], name: &str) -> u64 {
    let result: serde_json::Value = serde_json::from_slice(result).unwrap();
    result[name].as_u64().unwrap()
}

proptest! {
    /// R189, R190, R191: whatever is found was said by the server to the same question, to the same principal or
    /// for everybody, is not over, no notice came since it was asked for, and says the time that is left; and the
    /// bounds hold.
    #[test]
    fn r189_what_is_found_was_said_and_is_good(steps in prop::collection::vec(step(), 1..60)) {
        let mut cache = Cache::new(LIMITS);
        let mut now = Instant::now();
        let (mut said, mut waiting) = (Vec::<Said>::new(), Vec::<Waiting>::new());
        for step in steps {
            match step {
                Step::Ask { who, what, page } => {
                    let method = METHODS[what];
                    let asked = message(format!(
                        r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"uri":"u{page}"}}}}"#
                    ));
                    let question = Question::of(&asked).unwrap();
                    match cache.ask(question, Some(&principal(who)), now) {
                        Found::Nothing(ticket) => {
                            let overtaken = false;
                            waiting.push(Waiting { who, what, page, ticket, overtaken });
                        }
                        Found::Fresh(result) => {
                            let mark = number(&result, "mark");
                            let source = said.iter().find(|said| said.mark == mark).unwrap();
                            prop_assert_eq!((source.what, source.page), (what, page));
                            prop_assert!(source.public || source.who == who);
                            prop_assert!(!source.stale && now < source.until);
                            let left = (source.until - now).as_millis();
                            prop_assert_eq!(u128::from(number(&result, "ttlMs")), left);
                        }
                    }
                }
                Step::Answer { which, ttl, public } if which < waiting.len() => {
                    let Waiting { who, what, page, ticket, overtaken } = waiting.remove(which);
                    let (mark, scope) = (said.len() as u64, if public { "public" } else { "private" });
                    let answer = message(format!(
                        r#"{{"jsonrpc":"2.0","id":1,"result":{{"resultType":"complete","mark":{mark},"ttlMs":{ttl},"cacheScope":"{scope}"}}}}"#
                    ));
                    let kept = cache.answered(ticket, &answer, now);
                    prop_assert_eq!(kept, ttl > 0 && !overtaken);
                    let until = now + Duration::from_millis(ttl);
                    said.push(Said { who, what, page, mark, public, until, stale: overtaken });
                }
                Step::Answer { .. } => {}
                Step::Notice { what } => {
                    let method = NOTICES[what];
                    cache.notified(&message(format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#)));
                    said.iter_mut().filter(|said| said.what == what).for_each(|said| said.stale = true);
                    waiting.iter_mut().filter(|w| w.what == what).for_each(|w| w.overtaken = true);
                }
                Step::Pass { millis } => now += Duration::from_millis(millis),
            }
            prop_assert!(cache.len() <= LIMITS.entries && cache.bytes() <= LIMITS.bytes);
        }
    }
}
