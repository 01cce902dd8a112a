//! Heads of requests: tokenized by `httparse`, with the framing of the body decided strictly.

use std::mem::MaybeUninit;
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use httparse::ParserConfig;

use crate::http1::framing::{Chunked, Framing};

/// Header fields the tokenizer has room for, whatever the configured limit.
const MAX_FIELDS: usize = 128;

/// The head of a request, whichever HTTP version brought it.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    /// Path without query.
    pub(crate) path: Bytes,
    /// The authority of the request target, which goes before `Host` (RFC 9112 3.2.2).
    pub(crate) authority: Option<Bytes>,
    pub(crate) headers: HeaderMap,
    pub(crate) peer: Option<SocketAddr>,
}

impl RequestHead {
    /// The host that the client means.
    pub(crate) fn host(&self) -> Option<&[u8]> {
        let header = || self.headers.get(http::header::HOST).map(HeaderValue::as_bytes);
        self.authority.as_deref().or_else(header)
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
    let parsed = ParserConfig::default()
        .parse_request_with_uninit_headers(&mut request, input, &mut space);
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
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    for header in request.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(input.slice_ref(header.value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(bad("malformed header field"));
        };
        headers.append(name, value);
    }
    let http11 = request.version == Some(1);
    let framing = framing(&headers, http11)?;
    let target_of = request.path.ok_or(bad("no request target"))?;
    let (path, authority) = target(input, target_of, &headers)?;
    let keep_alive = keep_alive(&headers, http11);
    let expects_continue = http11
        && headers
            .get(EXPECT)
            .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let head = RequestHead {
        method,
        path,
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

/// RFC 9112 6.3, with everything refused that two readers could take differently.
fn framing(headers: &HeaderMap, http11: bool) -> Result<Framing, HeadError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let Some(coding) = codings.next() {
        if !http11 || codings.next().is_some() || lengths.next().is_some() {
            return Err(bad("ambiguous body length"));
        }
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(HeadError {
                status: 501,
                reason: "unknown transfer coding",
            });
        }
        return Ok(Framing::Chunked(Chunked::default()));
    }
    let Some(length) = lengths.next() else {
        return Ok(Framing::Length(0));
    };
    if lengths.next().is_some() {
        return Err(bad("Content-Length repeats"));
    }
    let digits = length.as_bytes();
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad("malformed Content-Length"));
    }
    let number = digits.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0'));
    Ok(Framing::Length(number))
}

/// Splits the request target (RFC 9112 3.2) into path and authority.
fn target(
    input: &Bytes,
    target: &str,
    headers: &HeaderMap,
) -> Result<(Bytes, Option<Bytes>), HeadError> {
    if headers.get_all(http::header::HOST).iter().nth(1).is_some() {
        return Err(bad("Host repeats"));
    }
    let slice = |text: &str| input.slice_ref(text.as_bytes());
    let without_query = |path: &str| slice(path.split('?').next().unwrap_or_default());
    if target.starts_with('/') {
        return Ok((without_query(target), None));
    }
    let Some((_, rest)) = target.split_once("://") else {
        return Err(bad("unsupported request target"));
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    Ok((without_query(path), Some(slice(authority))))
}

fn keep_alive(headers: &HeaderMap, http11: bool) -> bool {
    let mut keep = http11;
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|b| *b == b',') {
            match token.trim_ascii() {
                t if t.eq_ignore_ascii_case(b"close") => return false,
                t if t.eq_ignore_ascii_case(b"keep-alive") => keep = true,
                _ => {}
            }
        }
    }
    keep
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
