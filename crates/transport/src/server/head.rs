//! Heads of requests: tokenized by `httparse`, with the framing of the body decided strictly.

use std::fmt;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use httparse::ParserConfig;

use crate::http1::fields;
use crate::http1::framing::{Chunked, Framing};
use crate::server::ServerConfig;

/// Header fields the tokenizer has room for, whatever the configured limit.
const MAX_FIELDS: usize = 128;

/// The head of a request, whichever HTTP version brought it.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    /// Path without query.
    pub(crate) path: Bytes,
    pub(crate) query: Option<Query>,
    /// Whom the client means: the authority of the request target, or `Host` (RFC 9112 3.2.2).
    pub(crate) authority: Option<Bytes>,
    pub(crate) headers: HeaderMap,
    pub(crate) peer: Option<SocketAddr>,
}

/// The query of a request target. It may hold a session's id, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Query(Bytes);

impl Query {
    pub(crate) fn new(text: Bytes) -> Self {
        Self(text)
    }

    pub(crate) fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl RequestHead {
    /// The host that the client means.
    pub(crate) fn host(&self) -> Option<&[u8]> {
        let header = || {
            self.headers
                .get(http::header::HOST)
                .map(HeaderValue::as_bytes)
        };
        self.authority.as_deref().or_else(header)
    }

    /// The addresses that it came over before the peer, as far as trusted proxies say so.
    pub(crate) fn trail(&self, config: &ServerConfig) -> Vec<IpAddr> {
        match self.peer {
            Some(peer) => config.trusted_proxies.trail(peer.ip(), &self.headers),
            None => Vec::new(),
        }
    }
}

/// What HTTP/1 adds to a head.
#[derive(Debug)]
pub(crate) struct Http1Head {
    pub(crate) head: RequestHead,
    /// Bytes the head took.
    pub(crate) length: usize,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    /// HTTP/1.0 knows no chunked coding.
    pub(crate) chunked_allowed: bool,
}

/// Why a head is refused. The connection cannot be used after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadError {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
}

const fn bad(reason: &'static str) -> HeadError {
    HeadError {
        status: 400,
        reason,
    }
}

/// Parses a head from the beginning of `input`; `None` if it is not complete yet.
///
/// `input` is shared, so that header values are slices of it and not copies.
pub(crate) fn parse(
    input: &Bytes,
    max_headers: usize,
    peer: Option<SocketAddr>,
) -> Result<Option<Http1Head>, HeadError> {
    let mut space = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    let parsed =
        ParserConfig::default().parse_request_with_uninit_headers(&mut request, input, &mut space);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_MANY),
        Err(_) => return Err(bad("malformed request head")),
    };
    if request.headers.len() > max_headers {
        return Err(TOO_MANY);
    }
    let method = request
        .method
        .and_then(|m| Method::from_bytes(m.as_bytes()).ok());
    let method = method.ok_or(bad("malformed method"))?;
    let http11 = request.version == Some(1);
    let mut own = ConnectionFields::default();
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    for header in request.headers.iter() {
        if own.take(header.name, header.value) {
            continue;
        }
        let name = fields::name(header.name);
        let value = HeaderValue::from_maybe_shared(input.slice_ref(header.value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(bad("malformed header field"));
        };
        headers.append(name, value);
    }
    let framing = own.framing(http11)?;
    let target_of = request.path.ok_or(bad("no request target"))?;
    let host = own.host.one().map_err(|()| bad("Host repeats"))?;
    let Target {
        path,
        query,
        authority,
    } = target(input, target_of, host)?;
    let keep_alive = own.keep_alive(http11, &mut headers);
    let expects_continue = http11 && own.expects_continue;
    let head = RequestHead {
        method,
        path,
        query,
        authority,
        headers,
        peer,
    };
    let chunked_allowed = http11;
    Ok(Some(Http1Head {
        head,
        length,
        framing,
        keep_alive,
        expects_continue,
        chunked_allowed,
    }))
}

const TOO_MANY: HeadError = HeadError {
    status: 431,
    reason: "too many header fields",
};

/// Fields that are about this connection and its framing. They go no further than here, whoever
/// handles the request (RFC 9110 7.6.1).
#[derive(Default)]
struct ConnectionFields<'a> {
    host: Field<'a>,
    length: Field<'a>,
    coding: Field<'a>,
    connection: Vec<&'a [u8]>,
    expects_continue: bool,
}

/// A field that may come once.
#[derive(Default, Clone, Copy)]
enum Field<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    Repeated,
}

impl<'a> Field<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }

    fn one(self) -> Result<Option<&'a [u8]>, ()> {
        match self {
            Self::Absent => Ok(None),
            Self::Once(value) => Ok(Some(value)),
            Self::Repeated => Err(()),
        }
    }
}

impl<'a> ConnectionFields<'a> {
    /// Takes a field if it is one of these. By length first: most fields are none of them.
    fn take(&mut self, name: &str, value: &'a [u8]) -> bool {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is("host") => self.host.add(value),
            6 if is("expect") => {
                self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
            }
            10 if is("connection") => self.connection.push(value),
            10 if is("keep-alive") => {}
            14 if is("content-length") => self.length.add(value),
            17 if is("transfer-encoding") => self.coding.add(value),
            _ => return false,
        }
        true
    }

    /// RFC 9112 6.3, with everything refused that two readers could take differently.
    fn framing(&self, http11: bool) -> Result<Framing, HeadError> {
        let coding = self.coding.one().map_err(|()| AMBIGUOUS)?;
        let length = self
            .length
            .one()
            .map_err(|()| bad("Content-Length repeats"))?;
        let Some(coding) = coding else {
            return length.map_or(Ok(Framing::Length(0)), content_length);
        };
        if !http11 || length.is_some() {
            return Err(AMBIGUOUS);
        }
        if !coding.eq_ignore_ascii_case(b"chunked") {
            return Err(HeadError {
                status: 501,
                reason: "unknown transfer coding",
            });
        }
        Ok(Framing::Chunked(Chunked::default()))
    }

    /// Whether the connection may be used again. Fields that `Connection` names go no further either.
    fn keep_alive(&self, http11: bool, headers: &mut HeaderMap) -> bool {
        let mut keep = http11;
        let mut close = false;
        for token in self
            .connection
            .iter()
            .flat_map(|value| value.split(|b| *b == b','))
        {
            match token.trim_ascii() {
                t if t.eq_ignore_ascii_case(b"close") => close = true,
                t if t.eq_ignore_ascii_case(b"keep-alive") => keep = true,
                named => fields::remove_named(headers, named),
            }
        }
        keep && !close
    }
}

const AMBIGUOUS: HeadError = bad("ambiguous body length");

fn content_length(digits: &[u8]) -> Result<Framing, HeadError> {
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad("malformed Content-Length"));
    }
    let number = digits.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0'));
    Ok(Framing::Length(number))
}

/// The parts of a request target.
struct Target {
    path: Bytes,
    query: Option<Query>,
    authority: Option<Bytes>,
}

/// Splits the request target (RFC 9112 3.2). Its authority goes before `Host`.
fn target(input: &Bytes, target: &str, host: Option<&[u8]>) -> Result<Target, HeadError> {
    let slice = |text: &str| input.slice_ref(text.as_bytes());
    let parts = |target: &str, authority| {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        Target {
            path: slice(path),
            query: query.map(|query| Query::new(slice(query))),
            authority,
        }
    };
    if target.starts_with('/') {
        return Ok(parts(target, host.map(|h| input.slice_ref(h))));
    }
    let Some((_, rest)) = target.split_once("://") else {
        return Err(bad("unsupported request target"));
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    Ok(parts(path, Some(slice(authority))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<Http1Head>, HeadError> {
        parse(&Bytes::copy_from_slice(text.as_bytes()), 100, None)
    }

    #[test]
    fn a_plain_request() {
        let h = head("POST /mcp?a=b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello");
        let h = h.unwrap().unwrap();
        assert_eq!((&h.head.path[..], h.length), (&b"/mcp"[..], 62));
        assert_eq!(h.framing, Framing::Length(5));
        assert!(h.keep_alive && h.chunked_allowed && !h.expects_continue);
    }

    #[test]
    fn an_incomplete_head_waits() {
        assert!(head("POST /mcp HTTP/1.1\r\nHost: local").unwrap().is_none());
    }

    /// I3: what could be read in two ways is refused, not guessed.
    #[test]
    fn ambiguous_framing_is_refused() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: +5",
            "Content-Length: 5, 5",
            "Content-Length: ",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Host: a\r\nHost: b",
        ] {
            let h = head(&format!("POST /mcp HTTP/1.1\r\n{fields}\r\n\r\n"));
            assert!(h.is_err(), "{fields}: {h:?}");
        }
        assert!(head("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn the_absolute_form_names_the_host() {
        let h = head("GET http://evil.example/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let h = h.unwrap().unwrap();
        assert_eq!(h.head.host(), Some(&b"evil.example"[..]));
        assert_eq!(&h.head.path[..], b"/mcp");
    }
}
