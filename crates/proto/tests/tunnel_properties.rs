//! What nodes say to each other, as properties: what was written is what is read, whatever is read breaks nothing
//! but its own exchange, and no reader is sent more than the window holds.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::collection::vec;
use proptest::prelude::*;
use thinpipe_proto::rpc::RequestId;
use thinpipe_proto::session::{NodeId, Principal, SessionId};
use thinpipe_proto::tunnel::{
    Broken, ContentKind, ExchangeId, Frame, Head, MAX_PIECE, News, Part, Piece, Progress,
    ReceiveWindow, Received, SendWindow, Target, TunnelRequest, WINDOW_BYTES, WINDOW_PIECES,
    decode, encode,
};

const MAX_BODY: usize = 4096;

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn session() -> impl Strategy<Value = SessionId> {
    any::<[u8; 16]>().prop_map(SessionId::from_random)
}

fn node() -> impl Strategy<Value = NodeId> {
    any::<[u8; 12]>().prop_map(NodeId::from_random)
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    let field = ("[a-z][a-z-]{0,10}", "[ -~]{0,20}");
    vec(field, 0..6).prop_map(|fields| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::try_from(name).expect("a name");
            headers.append(name, HeaderValue::try_from(value).expect("a value"));
        }
        headers
    })
}

fn principal() -> impl Strategy<Value = Principal> {
    prop_oneof![
        Just(Principal::Anonymous),
        ".{0,8}".prop_map(|name| Principal::Named(name.into())),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::Post),
        Just(Target::Listen),
        Just(Target::Terminate),
        session().prop_map(Target::Stream),
    ]
}

fn request() -> impl Strategy<Value = TunnelRequest> {
    let peer = proptest::option::of(any::<std::net::SocketAddr>().prop_map(|mut peer| {
        // Flow and scope of an address are its host's own affair.
        if let std::net::SocketAddr::V6(peer) = &mut peer {
            peer.set_flowinfo(0);
            peer.set_scope_id(0);
        }
        peer
    }));
    let hops = vec(any::<std::net::IpAddr>(), 0..4);
    let of = (target(), ".{0,8}", bytes(20), principal());
    (of, headers(), peer, hops, bytes(MAX_BODY)).prop_map(
        |((target, endpoint, path, principal), headers, peer, forwarded_for, body)| TunnelRequest {
            target,
            endpoint,
            path,
            principal,
            headers,
            peer,
            forwarded_for,
            body,
        },
    )
}

fn piece() -> impl Strategy<Value = Piece> {
    (bytes(300), any::<bool>(), any::<bool>()).prop_map(|(bytes, at_boundary, is_last)| Piece {
        bytes,
        at_boundary,
        is_last,
    })
}

fn head() -> impl Strategy<Value = Head> {
    let content = prop_oneof![
        Just(ContentKind::Json),
        Just(ContentKind::EventStream),
        Just(ContentKind::Other(None)),
        "[ -~]{0,20}".prop_map(|value| ContentKind::Other(Some(
            HeaderValue::try_from(value).expect("a value")
        ))),
    ];
    let length = proptest::option::of(0..u64::MAX);
    (100_u16..1000, content, headers(), length, piece()).prop_map(
        |(status, content, headers, length, piece)| Head {
            status: StatusCode::from_u16(status).expect("a status"),
            content,
            headers,
            length,
            piece,
        },
    )
}

fn progress() -> impl Strategy<Value = Progress> {
    (any::<u64>(), any::<u64>()).prop_map(|(pieces, bytes)| Progress { pieces, bytes })
}

fn broken() -> impl Strategy<Value = Broken> {
    prop_oneof![
        Just(Broken::NotHere),
        Just(Broken::Refused),
        Just(Broken::Unreadable),
        Just(Broken::Unknown),
        Just(Broken::Lost),
        Just(Broken::TimedOut),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        request().prop_map(|request| Part::Ask(Box::new(request))),
        head().prop_map(|head| Part::Head(Box::new(head))),
        (any::<u64>(), piece()).prop_map(|(number, piece)| Part::Piece { number, piece }),
        broken().prop_map(Part::Broken),
        progress().prop_map(Part::Acknowledge),
        progress().prop_map(Part::Probe),
        any::<u64>().prop_map(Part::Sent),
        Just(Part::Leave),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    let exchange = (node(), any::<u64>(), part());
    let request = prop_oneof![
        any::<i64>().prop_map(RequestId::from_integer),
        ".{0,8}".prop_map(|text| RequestId::from_text(&text)),
    ];
    prop_oneof![
        4 => exchange.prop_map(|(asker, number, part)| {
            Frame::Exchange(ExchangeId { asker, number }, part)
        }),
        1 => session().prop_map(|session| Frame::News(News::Ended(session))),
        1 => session().prop_map(|session| Frame::News(News::Changed(session))),
        1 => (session(), request).prop_map(|(s, id)| Frame::News(News::Cancelled(s, id))),
        1 => (session(), node()).prop_map(|(s, node)| Frame::News(News::Listening(s, node))),
        1 => session().prop_map(|session| Frame::News(News::Replaced(session))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// F8: what one node says is what the other hears.
    #[test]
    fn f8_what_was_written_is_read(frame in frame()) {
        prop_assert_eq!(decode(encode(&frame), MAX_BODY), Ok(frame));
    }

    /// A frame that is cut is none, but says whose exchange it was if that had come.
    #[test]
    fn f8_a_frame_that_is_cut_fails_its_own_exchange(frame in frame(), at in any::<prop::sample::Index>()) {
        let whole = encode(&frame);
        let length = at.index(whole.len());
        let malformed = decode(whole.slice(..length), MAX_BODY).unwrap_err();
        if let (Frame::Exchange(exchange, _), Some(named)) = (&frame, &malformed.exchange) {
            prop_assert_eq!(exchange, named);
        }
    }

    /// Nothing that arrives breaks the node.
    #[test]
    fn f8_no_bytes_are_dangerous(mut noise in vec(any::<u8>(), 0..200), version in any::<bool>()) {
        if let (true, Some(first)) = (version, noise.first_mut()) {
            *first = 1;
        }
        let _ = decode(Bytes::from(noise), MAX_BODY);
    }

    /// A frame of another release is refused with the number of its exchange.
    #[test]
    fn f8_another_version_is_refused_by_name(frame in frame(), version in 2_u8..) {
        let mut bytes = encode(&frame).to_vec();
        bytes[0] = version;
        let malformed = decode(Bytes::from(bytes), MAX_BODY).unwrap_err();
        let exchange = match frame {
            Frame::Exchange(exchange, _) => Some(exchange),
            Frame::News(_) => None,
        };
        prop_assert_eq!(malformed.exchange, exchange);
    }

    /// C25: with a reader that reads as it likes, and acknowledgements that come when they come, no more than
    /// the window is ever on its way, everything arrives, and nobody waits for ever.
    #[test]
    fn c25_a_window_is_never_exceeded(sizes in vec(0..MAX_PIECE, 1..400), steps in vec(0..3_u8, 0..2000)) {
        let (mut sender, mut receiver) = (SendWindow::default(), ReceiveWindow::default());
        let mut waiting = std::collections::VecDeque::new();
        let mut acknowledged = Vec::new();
        let mut pieces = sizes.iter().copied().enumerate();
        let mut held = 0_usize;
        let mut next = pieces.next();
        let ends = std::iter::repeat_n([0, 1, 2], 3 * sizes.len()).flatten();
        for step in steps.into_iter().chain(ends) {
            match step {
                0 if sender.may_send() => {
                    if let Some((number, size)) = next {
                        sender.on_sent(size);
                        prop_assert_eq!(receiver.on_piece(number as u64, size), Ok(Received::Next));
                        prop_assert_eq!(receiver.on_piece(number as u64, size), Ok(Received::Again));
                        waiting.push_back(size);
                        held += size;
                        next = pieces.next();
                    }
                }
                1 => {
                    if let Some(size) = waiting.pop_front() {
                        receiver.on_consumed(size);
                        held -= size;
                        acknowledged.extend(receiver.poll_acknowledge());
                    }
                }
                2 => {
                    for progress in acknowledged.drain(..) {
                        prop_assert!(sender.on_acknowledged(progress).is_ok());
                    }
                }
                _ => {}
            }
            prop_assert!(waiting.len() as u64 <= WINDOW_PIECES);
            prop_assert!(held as u64 <= WINDOW_BYTES + MAX_PIECE as u64);
        }
        prop_assert!(next.is_none() && waiting.is_empty(), "everything has arrived");
    }
}

fn exchange() -> ExchangeId {
    ExchangeId {
        asker: NodeId::from_random([1; 12]),
        number: 7,
    }
}

/// What is too large is refused, and its exchange is named.
#[test]
fn f8_frames_have_limits() {
    let refused = |part: Part| {
        let frame = Frame::Exchange(exchange(), part);
        let malformed = decode(encode(&frame), MAX_BODY).unwrap_err();
        assert_eq!(malformed.exchange, Some(exchange()));
    };
    refused(Part::Piece {
        number: 1,
        piece: Piece {
            bytes: vec![0; MAX_PIECE + 1].into(),
            at_boundary: true,
            is_last: false,
        },
    });
    refused(Part::Ask(Box::new(TunnelRequest {
        target: Target::Post,
        endpoint: "e".into(),
        path: Bytes::new(),
        principal: Principal::Anonymous,
        headers: HeaderMap::new(),
        peer: None,
        forwarded_for: Vec::new(),
        body: vec![0; MAX_BODY + 1].into(),
    })));
}

/// A missing piece is noticed by the next one, and by what its sender says; so is what was never sent.
#[test]
fn f8_gaps_are_noticed() {
    let mut receiver = ReceiveWindow::default();
    assert_eq!(receiver.on_piece(0, 10), Ok(Received::Next));
    assert!(receiver.on_piece(2, 10).is_err());
    assert!(receiver.on_sent(1).is_ok() && receiver.on_sent(2).is_err());
    let mut sender = SendWindow::default();
    sender.on_sent(10);
    let more = Progress {
        pieces: 2,
        bytes: 10,
    };
    assert!(sender.on_acknowledged(more).is_err());
}
