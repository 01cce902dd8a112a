use thinpipe_transport::Random;

use super::*;
use crate::config::StateKey;

fn sealing(principal: &str) -> Sealing {
    let seals = Seals::new(&[StateKey::new([7; 32])], Random::default()).unwrap();
    let principal = Principal::Named(principal.into());
    Sealing::new(Arc::new(seals), "files".into(), principal)
}

fn message(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

/// What a client of this principal would send with the state of a response.
fn retry(response: &[u8]) -> Message {
    let response = Object::parse(&Bytes::copy_from_slice(response)).unwrap();
    let state = response
        .object("result")
        .unwrap()
        .get(STATE)
        .unwrap()
        .clone();
    let state = std::str::from_utf8(&state).unwrap();
    message(&format!(
        r#"{{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{{"name":"t","requestState":{state},"n":1e400}}}}"#
    ))
}

const ASKS: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":"a\"b\u00e9","x":1e400}}"#;

/// 5.5, O19: a state comes back to the server as it gave it, from the principal it was given to.
#[test]
fn o19_a_state_is_its_principals_own() {
    let alice = sealing("alice");
    let sealed = alice.seal(&message(ASKS)).unwrap();
    assert!(
        !sealed.windows(3).any(|part| part == b"a\\\""),
        "it is not shown"
    );
    assert!(
        sealed.windows(5).any(|part| part == b"1e400"),
        "all else is as it was"
    );
    let opened = alice.open(retry(&sealed)).unwrap();
    let params = Object::parse(&opened.params().unwrap()).unwrap();
    assert_eq!(string(params.get(STATE).unwrap()).unwrap(), "a\"b\u{e9}");
    assert_eq!(params.get("n").unwrap(), "1e400");
    assert_eq!(sealing("bob").open(retry(&sealed)).unwrap_err(), Stale);
    assert_eq!(
        alice.open(retry(ASKS.as_bytes())).unwrap_err(),
        Stale,
        "the server's own"
    );
    for other in [
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"requestState"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"requestState":"y"}}"#,
    ] {
        assert_eq!(alice.seal(&message(other)), None, "{other}");
    }
}

/// 5.5, O19: the server's own state reaches nobody, however it is written.
#[test]
fn o19_a_state_that_cannot_be_sealed_is_not_shown() {
    let alice = sealing("alice");
    for result in [
        r#"{"resultType":"input_required","requestState":"raw","requestState":"raw"}"#,
        r#"{"resultType":"input_required","requestState":["raw"]}"#,
        r#"{"resultType":"input_required","request\u0053tate":7,"x":"raw"}"#,
    ] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
        let refused = alice.seal(&message(&text)).unwrap();
        let refused: serde_json::Value = serde_json::from_slice(&refused).unwrap();
        assert_eq!(refused["id"], 1);
        assert_eq!(refused["error"]["data"]["reason"], "upstream_invalid");
        assert!(!refused.to_string().contains("raw"), "{refused}");
    }
    let escaped = r#"{"jsonrpc":"2.0","id":1,"result":{"request\u0053tate":"raw"}}"#;
    let events = read(&format!("data: {escaped}\n\n"), 7, 1 << 20).unwrap();
    assert!(!events.contains("raw"), "{events}");
    // What has none is the client's to judge.
    let twice = r#"{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}"#;
    assert_eq!(alice.seal(&message(twice)), None);
    let none = r#"{"jsonrpc":"2.0","id":1,"result":{"requestState":null}}"#;
    assert_eq!(alice.seal(&message(none)), None);
}

/// R234: a state that could not be taken back is not given out: the client hears it at once.
#[test]
fn r234_a_state_that_is_too_long_is_an_error() {
    let alice = sealing("alice");
    let asks = |length: usize| {
        let state = "s".repeat(length);
        message(&format!(
            r#"{{"jsonrpc":"2.0","id":"a","result":{{"resultType":"input_required","requestState":"{state}"}}}}"#
        ))
    };
    let sealed = alice.seal(&asks(256 << 10)).unwrap();
    let opened = alice.open(retry(&sealed)).unwrap();
    let params = Object::parse(&opened.params().unwrap()).unwrap();
    assert_eq!(string(params.get(STATE).unwrap()).unwrap().len(), 256 << 10);

    let refused = alice.seal(&asks(1 << 20)).unwrap();
    let refused: serde_json::Value = serde_json::from_slice(&refused).unwrap();
    assert_eq!(refused["id"], "a");
    assert_eq!(refused["error"]["code"], -32603);
    let data = serde_json::json!({"reason": "state_too_long", "upstream": "files"});
    assert_eq!(refused["error"]["data"], data);
    assert_eq!(refused.get("result"), None);
}

/// A body that comes in these parts.
struct Parts(std::collections::VecDeque<Vec<u8>>);

impl BodyStream for Parts {
    fn poll_fill(
        &mut self,
        _: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        match self.0.pop_front() {
            Some(part) => out.extend_from_slice(&part),
            None => return Poll::Ready(Ok(Filled::End)),
        }
        Poll::Ready(Ok(Filled::More))
    }
}

fn read(stream: &str, chunk: usize, limit: usize) -> Result<String, BodyError> {
    let parts = stream.as_bytes().chunks(chunk).map(<[u8]>::to_vec);
    let mut events = SealedEvents {
        body: Box::new(Parts(parts.collect())),
        sealing: sealing("alice"),
        limit,
        decoder: Decoder::new(limit),
        room: ByteBudget::new(1 << 20).empty(),
        input: Vec::new(),
    };
    let mut out = Vec::new();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    loop {
        match events.poll_fill(&mut cx, &mut out) {
            Poll::Ready(Ok(Filled::More)) => {}
            Poll::Ready(Ok(Filled::End)) => return Ok(String::from_utf8(out).unwrap()),
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => panic!("nothing is waited for"),
        }
    }
}

/// The events of a stream pass as they came, wherever they are cut; the one with a state has it sealed.
#[test]
fn a_stream_is_the_same_but_for_its_state() {
    let progress =
        ": comment\n\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"requestState\"}\n\n";
    let stream = format!("{progress}id: 7\ndata: {ASKS}\n\n");
    for chunk in [1, 2, 7, stream.len()] {
        let sealed = read(&stream, chunk, 4096).unwrap();
        let last = sealed
            .strip_prefix(progress)
            .expect("all before it is untouched");
        let data = last
            .lines()
            .find_map(|line| line.strip_prefix("data: "))
            .unwrap();
        assert!(last.contains("id: 7\n") && last.ends_with("\n\n"), "{last}");
        let opened = sealing("alice").open(retry(data.as_bytes())).unwrap();
        let params = Object::parse(&opened.params().unwrap()).unwrap();
        assert_eq!(string(params.get(STATE).unwrap()).unwrap(), "a\"b\u{e9}");
    }
    let error = read(&stream, 7, 64).unwrap_err();
    assert!(
        matches!(error, BodyError::TooLarge { limit: 64 }),
        "{error}"
    );
}
