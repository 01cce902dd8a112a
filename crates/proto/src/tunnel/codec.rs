//! Frames as bytes: a version, a kind, and fields in a fixed order. Numbers are big-endian, texts have their
//! length before them.

use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    Broken, ContentKind, ExchangeId, Frame, Head, MAX_FIELDS, MAX_PIECE, News, Part, Piece,
    Progress, Target, TunnelRequest,
};
use crate::rpc::RequestId;
use crate::session::{NodeId, Principal, SessionId};

/// How frames are written; another version is not read.
const VERSION: u8 = 1;

/// The most addresses that a request may have come over.
const MAX_HOPS: usize = 64;

/// A frame that cannot be read: cut, too large, of another version, or no frame at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a frame of another node cannot be read")]
pub struct Malformed {
    /// Whose exchange it is about, as far as that can be read.
    pub exchange: Option<ExchangeId>,
}

/// What a frame begins with.
mod kind {
    pub(super) const ASK: u8 = 1;
    pub(super) const HEAD: u8 = 2;
    pub(super) const PIECE: u8 = 3;
    pub(super) const BROKEN: u8 = 4;
    pub(super) const ACKNOWLEDGE: u8 = 5;
    pub(super) const PROBE: u8 = 6;
    pub(super) const SENT: u8 = 7;
    pub(super) const LEAVE: u8 = 8;
    pub(super) const ENDED: u8 = 32;
    pub(super) const CHANGED: u8 = 33;
    pub(super) const CANCELLED: u8 = 34;
    pub(super) const LISTENING: u8 = 35;
    pub(super) const REPLACED: u8 = 36;
    /// Frames below it are about an exchange, in every version.
    pub(super) const NEWS: u8 = 32;
}

/// A frame as bytes.
#[must_use]
pub fn encode(frame: &Frame) -> Bytes {
    let mut out = BytesMut::with_capacity(128);
    out.put_u8(VERSION);
    match frame {
        Frame::Exchange(exchange, part) => put_part(&mut out, exchange, part),
        Frame::News(News::Ended(session)) => put_news(&mut out, kind::ENDED, session),
        Frame::News(News::Changed(session)) => put_news(&mut out, kind::CHANGED, session),
        Frame::News(News::Cancelled(session, request)) => {
            put_news(&mut out, kind::CANCELLED, session);
            put_bytes(&mut out, request.as_json());
        }
        Frame::News(News::Listening(session, node)) => {
            put_news(&mut out, kind::LISTENING, session);
            put_bytes(&mut out, node.as_bytes());
        }
        Frame::News(News::Replaced(session)) => put_news(&mut out, kind::REPLACED, session),
    }
    out.freeze()
}

fn put_news(out: &mut BytesMut, kind: u8, session: &SessionId) {
    out.put_u8(kind);
    put_bytes(out, session.as_bytes());
}

fn put_part(out: &mut BytesMut, exchange: &ExchangeId, part: &Part) {
    out.put_u8(match part {
        Part::Ask(_) => kind::ASK,
        Part::Head(_) => kind::HEAD,
        Part::Piece { .. } => kind::PIECE,
        Part::Broken(_) => kind::BROKEN,
        Part::Acknowledge(_) => kind::ACKNOWLEDGE,
        Part::Probe(_) => kind::PROBE,
        Part::Sent(_) => kind::SENT,
        Part::Leave => kind::LEAVE,
    });
    put_bytes(out, exchange.asker.as_bytes());
    out.put_u64(exchange.number);
    match part {
        Part::Ask(request) => put_request(out, request),
        Part::Head(head) => put_head(out, head),
        Part::Piece { number, piece } => {
            out.put_u64(*number);
            put_piece(out, piece);
        }
        Part::Broken(broken) => out.put_u8(broken_number(*broken)),
        Part::Acknowledge(progress) | Part::Probe(progress) => {
            out.put_u64(progress.pieces);
            out.put_u64(progress.bytes);
        }
        Part::Sent(pieces) => out.put_u64(*pieces),
        Part::Leave => {}
    }
}

fn put_request(out: &mut BytesMut, request: &TunnelRequest) {
    match &request.target {
        Target::Post => out.put_u8(0),
        Target::Listen => out.put_u8(1),
        Target::Terminate => out.put_u8(2),
        Target::Stream(session) => {
            out.put_u8(3);
            put_bytes(out, session.as_bytes());
        }
    }
    put_bytes(out, request.endpoint.as_bytes());
    put_bytes(out, &request.path);
    match &request.principal {
        Principal::Anonymous => out.put_u8(0),
        Principal::Named(name) => {
            out.put_u8(1);
            put_bytes(out, name.as_bytes());
        }
    }
    put_headers(out, &request.headers);
    let peer = request.peer.map(|peer| peer.to_string());
    put_bytes(out, peer.unwrap_or_default().as_bytes());
    let hops = &request.forwarded_for[..request.forwarded_for.len().min(MAX_HOPS)];
    out.put_u8(u8::try_from(hops.len()).unwrap_or(u8::MAX));
    for hop in hops {
        put_bytes(out, hop.to_string().as_bytes());
    }
    put_bytes(out, &request.body);
}

fn put_head(out: &mut BytesMut, head: &Head) {
    out.put_u16(head.status.as_u16());
    match &head.content {
        ContentKind::Json => out.put_u8(0),
        ContentKind::EventStream => out.put_u8(1),
        ContentKind::Other(None) => out.put_u8(2),
        ContentKind::Other(Some(value)) => {
            out.put_u8(3);
            put_bytes(out, value.as_bytes());
        }
    }
    put_headers(out, &head.headers);
    // No body is as long as that, so it can say that the length is not known.
    out.put_u64(head.length.unwrap_or(u64::MAX));
    put_piece(out, &head.piece);
}

fn put_piece(out: &mut BytesMut, piece: &Piece) {
    out.put_u8(u8::from(piece.at_boundary) | u8::from(piece.is_last) << 1);
    put_bytes(out, &piece.bytes);
}

fn put_headers(out: &mut BytesMut, headers: &HeaderMap) {
    let count = headers.len().min(MAX_FIELDS);
    out.put_u16(u16::try_from(count).unwrap_or(u16::MAX));
    for (name, value) in headers.iter().take(MAX_FIELDS) {
        put_bytes(out, name.as_str().as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    // Whatever is longer than 4 GiB does not get here: bodies are bounded far below.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.put_u32(length);
    out.extend_from_slice(&bytes[..length as usize]);
}

fn broken_number(broken: Broken) -> u8 {
    match broken {
        Broken::NotHere => 0,
        Broken::Refused => 1,
        Broken::Unreadable => 2,
        Broken::Unknown => 3,
        Broken::Lost => 4,
        Broken::TimedOut => 5,
    }
}

/// Reads a frame. What it holds are parts of `bytes`; a body of a request may have `max_body` bytes.
///
/// # Errors
/// [`Malformed`].
pub fn decode(bytes: Bytes, max_body: usize) -> Result<Frame, Malformed> {
    let mut reader = Reader(bytes);
    let none = Malformed { exchange: None };
    let head = (reader.u8(), reader.u8());
    let (Some(version), Some(kind)) = head else {
        return Err(none);
    };
    if kind >= kind::NEWS {
        let news = reader.news(kind).filter(|_| version == VERSION);
        return news
            .filter(|_| reader.is_at_end())
            .map(Frame::News)
            .ok_or(none);
    }
    let exchange = reader.exchange().ok_or(none)?;
    let part = match version {
        VERSION => reader.part(kind, max_body).filter(|_| reader.is_at_end()),
        _ => None,
    };
    match part {
        Some(part) => Ok(Frame::Exchange(exchange, part)),
        None => Err(Malformed {
            exchange: Some(exchange),
        }),
    }
}

/// What has not been read of a frame. Every reading gives `None` for what cannot be.
struct Reader(Bytes);

impl Reader {
    fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    fn u8(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.0.try_get_u16().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.0.try_get_u64().ok()
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let length = self.0.try_get_u32().ok()? as usize;
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.into()).ok()
    }

    fn session(&mut self) -> Option<SessionId> {
        SessionId::from_bytes(self.bytes()?).ok()
    }

    fn node(&mut self) -> Option<NodeId> {
        NodeId::from_bytes(self.bytes()?).ok()
    }

    fn exchange(&mut self) -> Option<ExchangeId> {
        let asker = self.node()?;
        let number = self.u64()?;
        Some(ExchangeId { asker, number })
    }

    fn news(&mut self, kind: u8) -> Option<News> {
        let session = self.session()?;
        Some(match kind {
            kind::ENDED => News::Ended(session),
            kind::CHANGED => News::Changed(session),
            kind::CANCELLED => News::Cancelled(session, RequestId::parse(self.bytes()?).ok()?),
            kind::LISTENING => News::Listening(session, self.node()?),
            kind::REPLACED => News::Replaced(session),
            _ => return None,
        })
    }

    fn part(&mut self, kind: u8, max_body: usize) -> Option<Part> {
        Some(match kind {
            kind::ASK => Part::Ask(Box::new(self.request(max_body)?)),
            kind::HEAD => Part::Head(Box::new(self.head()?)),
            kind::PIECE => Part::Piece {
                number: self.u64()?,
                piece: self.piece()?,
            },
            kind::BROKEN => Part::Broken(self.broken()?),
            kind::ACKNOWLEDGE => Part::Acknowledge(self.progress()?),
            kind::PROBE => Part::Probe(self.progress()?),
            kind::SENT => Part::Sent(self.u64()?),
            kind::LEAVE => Part::Leave,
            _ => return None,
        })
    }

    fn broken(&mut self) -> Option<Broken> {
        Some(match self.u8()? {
            0 => Broken::NotHere,
            1 => Broken::Refused,
            2 => Broken::Unreadable,
            3 => Broken::Unknown,
            4 => Broken::Lost,
            5 => Broken::TimedOut,
            _ => return None,
        })
    }

    fn progress(&mut self) -> Option<Progress> {
        let (pieces, bytes) = (self.u64()?, self.u64()?);
        Some(Progress { pieces, bytes })
    }

    fn request(&mut self, max_body: usize) -> Option<TunnelRequest> {
        let target = match self.u8()? {
            0 => Target::Post,
            1 => Target::Listen,
            2 => Target::Terminate,
            3 => Target::Stream(self.session()?),
            _ => return None,
        };
        let endpoint = self.text()?;
        let path = self.bytes()?;
        let principal = match self.u8()? {
            0 => Principal::Anonymous,
            1 => Principal::Named(self.text()?.into()),
            _ => return None,
        };
        let headers = self.headers()?;
        let peer: Option<SocketAddr> = match self.text()? {
            none if none.is_empty() => None,
            peer => Some(peer.parse().ok()?),
        };
        let count = usize::from(self.u8()?);
        let hop = |_| self.text()?.parse().ok();
        let forwarded_for: Vec<IpAddr> = (0..count).map(hop).collect::<Option<_>>()?;
        let body = self.bytes()?;
        (body.len() <= max_body && forwarded_for.len() <= MAX_HOPS).then_some(TunnelRequest {
            target,
            endpoint,
            path,
            principal,
            headers,
            peer,
            forwarded_for,
            body,
        })
    }

    fn head(&mut self) -> Option<Head> {
        let status = StatusCode::from_u16(self.u16()?).ok()?;
        let content = match self.u8()? {
            0 => ContentKind::Json,
            1 => ContentKind::EventStream,
            2 => ContentKind::Other(None),
            3 => ContentKind::Other(Some(self.value()?)),
            _ => return None,
        };
        let headers = self.headers()?;
        let length = Some(self.u64()?).filter(|length| *length != u64::MAX);
        Some(Head {
            status,
            content,
            headers,
            length,
            piece: self.piece()?,
        })
    }

    fn piece(&mut self) -> Option<Piece> {
        let flags = self.u8()?;
        let bytes = self.bytes()?;
        (flags < 4 && bytes.len() <= MAX_PIECE).then_some(Piece {
            bytes,
            at_boundary: flags & 1 != 0,
            is_last: flags & 2 != 0,
        })
    }

    fn headers(&mut self) -> Option<HeaderMap> {
        let count = usize::from(self.u16()?);
        if count > MAX_FIELDS {
            return None;
        }
        let mut headers = HeaderMap::with_capacity(count);
        for _ in 0..count {
            let name = HeaderName::from_bytes(&self.bytes()?).ok()?;
            headers.append(name, self.value()?);
        }
        Some(headers)
    }

    fn value(&mut self) -> Option<HeaderValue> {
        HeaderValue::from_maybe_shared(self.bytes()?).ok()
    }
}
