use std::pin::pin;
use std::task::{Context, Waker};

use thinpipe_proto::bridge::{Config, Sharing};
use thinpipe_transport::Random;

use super::*;
use crate::pipe::Manner;
use crate::pipe::owed::MAX_OWED;

/// A session that several clients share, with nobody who writes to its server.
fn session() -> Arc<UpstreamSession> {
    let config = Config {
        sharing: Sharing::Shared,
        ..Config::default()
    };
    let manner = Manner {
        is_shared: true,
        is_resumable: false,
        reopens: false,
        moves: false,
        idle: Duration::MAX,
    };
    UpstreamSession::new(config, false, manner, Random::default())
}

fn ping(id: &str) -> Message {
    let text = format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"ping"}}"#);
    Message::parse(text.into()).unwrap()
}

fn is_done(future: impl Future) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    pin!(future).poll(&mut cx).is_ready()
}

/// Memory: a server that asks on and takes no answer is not read any more, until it takes one.
#[test]
fn a_server_that_takes_no_answers_is_not_read() {
    let session = session();
    for _ in 0..MAX_OWED {
        assert!(is_done(session.may_read()));
        session.heard_on_pipe(None, &ping("p"), &mut VecDeque::new());
    }
    let mut reading = pin!(session.may_read());
    let mut cx = Context::from_waker(Waker::noop());
    // Something may have been delivered: it is looked at again.
    assert!(reading.as_mut().poll(&mut cx).is_pending());
    assert!(is_done(session.next_write()));
    assert!(reading.as_mut().poll(&mut cx).is_ready());
}

/// Memory: ids are as long as the server likes, and so are its answers.
#[test]
fn long_answers_count_by_their_length() {
    let session = session();
    session.heard_on_pipe(None, &ping(&"p".repeat(1 << 20)), &mut VecDeque::new());
    assert!(!is_done(session.may_read()));
    assert!(is_done(session.next_write()));
    assert!(is_done(session.may_read()));
}
