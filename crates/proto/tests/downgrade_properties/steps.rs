//! What clients, transport and clock do in one step.

use std::collections::BTreeSet;
use std::time::Duration;

use thinpipe_proto::bridge::downgrade::{
    AttachmentId, Channel, ExchangeId, Refused, Request, Ticket,
};

use super::judge::judge;
use super::losses;
use super::upstream_steps as upstream;
use super::world::{
    Carries, DECLARED, Exchange, IN_FLIGHT, LEVELS, LISTENS, Life, Post, State, Step, URI_LIMIT,
    World, message,
};

/// Ids that clients choose: of both types, and one value in two spellings.
const IDS: [&str; 5] = ["1", "\"1\"", "2", "\"x\"", "\"\\u0078\""];
const TOKENS: [Option<&str>; 4] = [None, Some("1"), Some("\"1\""), Some("2")];
const METHODS: [&str; 6] = [
    "tools/call",
    "tools/call",
    "resources/read",
    "tools/list",
    "completion/complete",
    "server/discover",
];
pub(super) const URIS: [&str; 3] = ["a", "b", "c"];

pub(super) fn pick<T: Copy>(of: &[T], choice: u8) -> T {
    of[usize::from(choice) % of.len()]
}

pub(super) fn ticket(mark: usize, round: u8) -> Ticket {
    let exchange = ExchangeId(u128::try_from(mark).expect("small"));
    Ticket { exchange, round }
}

/// One step of a script.
pub(super) fn step(world: &mut World, kind: u8, a: u8, b: u8, c: u8) {
    world.step = Step::default();
    world.unparkable = kind == 255;
    match kind % 28 {
        0..=3 => ask(world, a, b, c),
        4..=6 => retry(world, a, b, c),
        7 => stale_retry(world, a, b, c),
        8 => leave(world, a),
        9 => handed_out(world, a),
        10..=11 => pass_time(world, a, b),
        12 => listen(world, a, b),
        13 => transport(world, a, b),
        14 => losses::lose(world, a, b),
        15 if a == 0 && b < 128 => losses::lose_session(world),
        16 => upstream::open(world),
        17..=18 => upstream::answer(world, a, b, c),
        19..=22 => upstream::ask(world, a, b, c),
        23 => upstream::withdraw(world, a),
        24 => upstream::progress(world, a, b),
        25 => upstream::log(world, a, b),
        26 => upstream::change(world, a),
        27 => upstream::settle(world, a),
        _ => {}
    }
}

fn params(
    mark: usize,
    declared: usize,
    token: Option<&str>,
    level: Option<usize>,
    more: &str,
) -> String {
    let token = token.map_or_else(String::new, |token| format!(r#","progressToken":{token}"#));
    let level = level.map_or_else(String::new, |level| {
        format!(r#","io.modelcontextprotocol/logLevel":"{}""#, LEVELS[level])
    });
    let declared = DECLARED[declared];
    format!(
        r#"{{"k":{mark},"uri":"r","_meta":{{"io.modelcontextprotocol/clientCapabilities":{declared}{token}{level}}}{more}}}"#
    )
}

fn level_of(choice: u8) -> Option<usize> {
    Some(usize::from(choice % 5)).filter(|level| *level < LEVELS.len())
}

fn ask(world: &mut World, a: u8, b: u8, c: u8) {
    let method = pick(&METHODS, a);
    let (id, declared) = (pick(&IDS, b), usize::from(a / 8) % DECLARED.len());
    let (token, level) = (pick(&TOKENS, c), level_of(c / 4));
    let mark = world.exchanges.len();
    let params = params(mark, declared, token, level, "");
    let text = message(&format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#
    ));
    let number = world.post_id();
    let exchange = ExchangeId(u128::try_from(mark).expect("small"));
    let mut request = Request::new(exchange, AttachmentId(number), text);
    let waits = b > 240;
    if waits {
        request.elicitations = vec!["e".to_owned()];
    }
    give(
        world,
        request,
        method,
        declared,
        Post {
            carries: Carries::Exchange(mark),
            id: id.to_owned(),
            token,
            level,
            over: false,
        },
    );
}

fn give(world: &mut World, request: Request, method: &'static str, declared: usize, post: Post) {
    let (number, waits) = (request.attachment.0, !request.elicitations.is_empty());
    let admitted = match waits {
        false => Some(world.machine.admits(&request.message)),
        true => None,
    };
    let eligible = world
        .exchanges
        .iter()
        .enumerate()
        .filter(|(mark, exchange)| world.is_eligible(*mark) && !exchange.outcome);
    let busy = eligible.count() > 0;
    let taken = world.machine.request(request, world.now);
    if let Some(admitted) = admitted {
        assert_eq!(admitted, taken);
    }
    let round = matches!(method, "tools/call" | "prompts/get" | "resources/read");
    match &taken {
        Ok(()) => {
            let asks = round && world.asks_anything(declared) && world.channel == Channel::Pipe;
            assert!(
                !(asks && busy),
                "invariant 9: one that may be asked at a time"
            );
            let until = world.now + world.machine.config().limits.completion;
            world.exchanges.push(Exchange {
                method,
                life: Life::Attached(number),
                declared,
                writes: 0,
                allowed: 1,
                rounds: 0,
                shown: false,
                outcome: false,
                heard: 0,
                progress: Default::default(),
                started: world.now,
                waits_until: (waits && !world.completed).then_some(until),
            });
            world.posts.insert(number, post);
        }
        Err(Refused::TooManyInFlight { limit }) => assert_eq!(*limit, IN_FLIGHT),
        Err(Refused::Over | Refused::Busy) => {}
        Err(other) => panic!("{other:?}"),
    }
    judge(world);
}

fn retry(world: &mut World, a: u8, b: u8, c: u8) {
    let parked = world.exchanges.iter().enumerate();
    let parked = parked.filter(|(_, exchange)| matches!(exchange.life, Life::Parked(_)));
    let parked: Vec<usize> = parked.map(|(mark, _)| mark).collect();
    if parked.is_empty() {
        return;
    }
    let mark = pick(&parked, a);
    let round = world.exchanges[mark].rounds;
    retry_with(world, mark, round, b, c, true);
}

fn stale_retry(world: &mut World, a: u8, b: u8, c: u8) {
    if world.exchanges.is_empty() {
        return;
    }
    let marks: Vec<usize> = (0..world.exchanges.len()).collect();
    let mark = pick(&marks, a);
    let round = b % 4;
    let exchange = &world.exchanges[mark];
    let valid = matches!(exchange.life, Life::Parked(_)) && exchange.rounds == round;
    retry_with(world, mark, round, b, c, valid);
}

/// What makes an object the answer to whatever was asked.
const ANY: &str = r#""action":"accept","role":"user","content":{},"roots":[]"#;

/// Answers some of what was asked, with keys that name nothing among them.
fn retry_with(world: &mut World, mark: usize, round: u8, b: u8, c: u8, valid: bool) {
    let declared = usize::from(b / 16) % DECLARED.len();
    let (id, token, level) = (pick(&IDS, b), pick(&TOKENS, c), level_of(c / 4));
    let mut answers = vec![r#""k99":{}"#.to_owned()];
    for (number, question) in world.questions.iter().enumerate() {
        let shown = question
            .key
            .as_ref()
            .filter(|_| question.whose == Some(mark));
        let Some(key) = shown else { continue };
        match (usize::from(c) + number) % 8 {
            0 => {}
            1 => answers.push(format!(
                r#""{key}":{{"method":"m","result":{{"n":{number}}}}}"#
            )),
            _ => answers.push(format!(r#""{key}":{{"n":{number},{ANY}}}"#)),
        }
    }
    // A key may have been used for a question that was never shown after all.
    answers.sort();
    answers.dedup_by_key(|answer| answer.split(':').next().map(str::to_owned));
    let more = format!(
        r#","requestState":"S","inputResponses":{{{}}}"#,
        answers.join(",")
    );
    let params = params(mark, declared, token, level, &more);
    let method = world.exchanges[mark].method;
    let text = message(&format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#
    ));
    let number = world.post_id();
    let held = world.exchanges[mark].outcome;
    if valid {
        world.step.retried = Some(mark);
        world.exchanges[mark].declared = declared;
        world.posts.insert(
            number,
            Post {
                carries: Carries::Exchange(mark),
                id: id.to_owned(),
                token,
                level,
                over: false,
            },
        );
    }
    let taken = world
        .machine
        .retry(ticket(mark, round), AttachmentId(number), &text, world.now);
    assert_eq!(
        taken.is_ok(),
        valid,
        "invariants 12 and 13: {:?}",
        world.exchanges[mark]
    );
    judge(world);
    if !valid {
        assert_eq!(world.step.actions, 0, "invariant 12: nothing has changed");
        world.detach(number);
        judge(world);
        assert_eq!(world.step.actions, 0, "invariant 13: nor by its disconnect");
    } else if held {
        assert!(
            world.posts[&number].over,
            "invariant 16: delivered by the retry"
        );
    }
}

fn leave(world: &mut World, a: u8) {
    let posts: Vec<u64> = world.posts.keys().copied().collect();
    if posts.is_empty() {
        return;
    }
    let number = pick(&posts, a);
    leave_post(world, number);
}

pub(super) fn leave_post(world: &mut World, number: u64) {
    world.detach(number);
    let post = world.posts.get_mut(&number).expect("a POST");
    match post.carries.clone() {
        Carries::Listen { .. } => post.over = true,
        Carries::Exchange(mark) => match world.exchanges[mark].life {
            Life::Attached(at) if at == number => {
                post.over = true;
                world.exchanges[mark].life = Life::Over;
                let running = running(world, mark);
                judge(world);
                assert!(
                    !running.is_some_and(|r| world.is_running(r)),
                    "invariant 14: cancelled"
                );
                no_questions(world, mark);
                return;
            }
            Life::Parked(Some(at)) if at == number => {
                let running = running(world, mark);
                judge(world);
                assert!(
                    !running.is_some_and(|r| world.is_running(r)),
                    "invariant 14: cancelled"
                );
                assert_eq!(world.exchanges[mark].life, Life::Over);
                no_questions(world, mark);
                return;
            }
            _ => {
                judge(world);
                assert_eq!(
                    world.step.actions, 0,
                    "invariant 14: nothing else is cancelled"
                );
                return;
            }
        },
    }
    judge(world);
}

fn running(world: &World, mark: usize) -> Option<u64> {
    let mut received = world.received.iter();
    let found = received.find(|(_, r)| r.mark == Some(mark) && r.state == State::Running);
    found.map(|(number, _)| *number)
}

fn no_questions(world: &World, mark: usize) {
    let open = world
        .questions
        .iter()
        .find(|q| q.open && q.whose == Some(mark));
    assert!(open.is_none(), "invariant 5: {open:?}");
}

fn handed_out(world: &mut World, a: u8) {
    let pending = world
        .exchanges
        .iter()
        .enumerate()
        .filter_map(|(mark, exchange)| match exchange.life {
            Life::Parked(Some(post)) => Some((mark, post)),
            _ => None,
        });
    let pending: Vec<(usize, u64)> = pending.collect();
    if pending.is_empty() {
        return;
    }
    let (mark, post) = pick(&pending, a);
    world.machine.handed_out(AttachmentId(post), world.now);
    world.exchanges[mark].life = Life::Parked(None);
    judge(world);
    assert_eq!(world.step.actions, 0);
}

fn pass_time(world: &mut World, a: u8, b: u8) {
    let time = match a % 6 {
        0..=2 => Duration::from_millis(30),
        3 => Duration::from_millis(u64::from(b)),
        4 => Duration::from_secs(u64::from(b)),
        _ => Duration::from_secs(10 * u64::from(b)),
    };
    world.pass(time);
}

fn listen(world: &mut World, a: u8, b: u8) {
    let id = pick(&IDS, b);
    let mut wants = BTreeSet::new();
    let mut asked = Vec::new();
    for (bit, name) in [
        (1, "toolsListChanged"),
        (2, "resourcesListChanged"),
        (4, "promptsListChanged"),
    ] {
        if a & bit != 0 {
            wants.insert(name.to_owned());
            asked.push(format!(r#""{name}":true"#));
        }
    }
    let uris = URIS.iter().zip([8, 16, 32]).filter(|(_, bit)| a & bit != 0);
    let uris: Vec<String> = uris.map(|(uri, _)| (*uri).to_owned()).collect();
    let quoted: Vec<String> = uris.iter().map(|uri| format!("\"{uri}\"")).collect();
    asked.push(format!(r#""resourceSubscriptions":[{}]"#, quoted.join(",")));
    wants.extend(uris);
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"subscriptions/listen","params":{{"notifications":{{{}}},"_meta":{{}}}}}}"#,
        asked.join(",")
    );
    let number = world.post_id();
    let exchange = ExchangeId(u128::MAX);
    let request = Request::new(exchange, AttachmentId(number), message(&text));
    match world.machine.request(request, world.now) {
        Ok(()) => {
            let carries = Carries::Listen {
                wants,
                acknowledged: None,
                told: 0,
            };
            world.posts.insert(
                number,
                Post {
                    carries,
                    id: id.to_owned(),
                    token: None,
                    level: None,
                    over: false,
                },
            );
        }
        Err(Refused::TooManyListens { limit }) => assert!(limit == LISTENS || limit == URI_LIMIT),
        Err(Refused::Over | Refused::TooManyInFlight { .. }) => {}
        Err(other) => panic!("{other:?}"),
    }
    judge(world);
}

/// The standing stream opens, is refused, or has a gap.
fn transport(world: &mut World, a: u8, b: u8) {
    if world.channel == Channel::Pipe || !world.stream {
        return;
    }
    if a.is_multiple_of(4) {
        world.deaf = true;
        world.machine.stream_refused(world.now);
        // It is not there, and not asked for again.
        judge(world);
    } else {
        world.machine.stream_opened(b.is_multiple_of(2), world.now);
        judge(world);
    }
}
