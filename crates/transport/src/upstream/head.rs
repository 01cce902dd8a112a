//! Heads of HTTP/1.1 messages, as a client writes and reads them.

use std::mem::MaybeUninit;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use thinpipe_proto::shown::Shown;

use crate::http1::fields;
use crate::http1::framing::Framing;

/// Bytes of a response's head, with the interim responses before it.
pub(super) const MAX_HEAD: usize = 64 << 10;

/// Fields of a response's head.
const MAX_HEADERS: usize = 128;

/// What a response says before its body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// Without those of the connection.
    pub(super) headers: HeaderMap,
    /// `Content-Length`, if given.
    pub(super) content_length: Option<u64>,
    /// `None`: a response of this kind has no body.
    pub(super) framing: Option<Framing>,
    /// Whether another request may follow on the connection.
    pub(super) reusable: bool,
    /// The server's `Keep-Alive: timeout`.
    pub(super) keep_alive: Option<Duration>,
}

/// Parses a complete head; `to` is the method it answers.
///
/// # Errors
/// Which rule it breaks: everything that could make two readers see different messages is refused.
pub(super) fn parse(bytes: &[u8], to: &Method) -> Result<Head, String> {
    // One allocation for all values; parts are shared out of it.
    let owned = Bytes::copy_from_slice(bytes);
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        &owned,
        &mut fields,
    );
    match parsed {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err("its head is not complete".to_owned()),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(format!("its head has more than {MAX_HEADERS} fields"));
        }
        Err(error) => return Err(format!("its head is not HTTP/1.1: {error}")),
    }
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| "its status is no number from 100 to 999".to_owned())?;
    let mut own = ConnectionFields::default();
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for field in &*response.headers {
        if own.take(field.name, field.value)? {
            continue;
        }
        let name = fields::name(field.name)
            .map_err(|_| "a field of its head has an invalid name".to_owned())?;
        let value = HeaderValue::from_maybe_shared(owned.slice_ref(field.value)).map_err(|_| {
            format!(
                "the value of {} is invalid",
                Shown::new(&name, super::MAX_SHOWN)
            )
        })?;
        headers.append(name, value);
    }
    // What `Connection` names goes no further either.
    for named in own.named.drain(..) {
        fields::remove_named(&mut headers, named);
    }
    let old = response.version == Some(0);
    own.delimit(status, headers, old, to)
}

/// Fields that are about the connection and its framing. They go no further than here, whoever reads
/// the answer (RFC 9110 7.6.1).
#[derive(Default)]
struct ConnectionFields<'a> {
    length: Option<u64>,
    coding: Option<&'a [u8]>,
    close: bool,
    keep: bool,
    named: Vec<&'a [u8]>,
    timeout: Option<Duration>,
    /// `max` of `Keep-Alive` says that this was the last request.
    spent: bool,
}

impl<'a> ConnectionFields<'a> {
    /// Takes a field if it is one of these. By length first: most fields are none of them.
    fn take(&mut self, name: &str, value: &'a [u8]) -> Result<bool, String> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            10 if is("connection") => self.connection(value),
            10 if is("keep-alive") => self.keep_alive(value),
            14 if is("content-length") => self.content_length(value)?,
            17 if is("transfer-encoding") => {
                if self.coding.is_some() || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err("its Transfer-Encoding is not chunked alone".to_owned());
                }
                self.coding = Some(value);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), String> {
        for part in value.split(|b| *b == b',') {
            let length = decimal(part.trim_ascii())
                .ok_or_else(|| "its Content-Length is no number".to_owned())?;
            if self.length.is_some_and(|n| n != length) {
                return Err("it has several Content-Lengths that differ".to_owned());
            }
            self.length = Some(length);
        }
        Ok(())
    }

    fn connection(&mut self, value: &'a [u8]) {
        for option in value.split(|b| *b == b',') {
            match option.trim_ascii() {
                o if o.eq_ignore_ascii_case(b"close") => self.close = true,
                o if o.eq_ignore_ascii_case(b"keep-alive") => self.keep = true,
                named => self.named.push(named),
            }
        }
    }

    fn keep_alive(&mut self, value: &[u8]) {
        for parameter in value.split(|b| *b == b',') {
            let mut halves = parameter.splitn(2, |b| *b == b'=');
            let name = halves.next().unwrap_or_default().trim_ascii();
            let number = decimal(halves.next().unwrap_or_default().trim_ascii());
            if name.eq_ignore_ascii_case(b"timeout") {
                self.timeout = number.map(Duration::from_secs);
            } else if name.eq_ignore_ascii_case(b"max") {
                self.spent |= number == Some(0);
            }
        }
    }

    /// RFC 9112, sections 6.3 and 9.3.
    fn delimit(
        self,
        status: StatusCode,
        headers: HeaderMap,
        old: bool,
        to: &Method,
    ) -> Result<Head, String> {
        let content_length = self.length;
        let chunked = self.coding.is_some();
        if chunked && content_length.is_some() {
            return Err("it has both Content-Length and Transfer-Encoding".to_owned());
        }
        if chunked && old {
            return Err("it is HTTP/1.0 and has a Transfer-Encoding".to_owned());
        }
        let bodiless = status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || *to == Method::HEAD;
        let framing = match content_length {
            _ if bodiless => None,
            _ if chunked => Some(Framing::chunked()),
            Some(length) => Some(Framing::Length(length)),
            None => Some(Framing::UntilClose),
        };
        // A 204 that announces a body all the same may send it: nothing after it can be trusted.
        let lying =
            status == StatusCode::NO_CONTENT && (chunked || content_length.is_some_and(|n| n > 0));
        let persistent = if old {
            self.keep && !self.close
        } else {
            !self.close
        };
        let delimited = framing != Some(Framing::UntilClose);
        Ok(Head {
            status,
            content_length,
            reusable: persistent && !lying && !self.spent && delimited,
            framing,
            keep_alive: self.timeout,
            headers,
        })
    }
}

/// Digits only: no sign, no space, no overflow.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The parts of a request's head that are the same each time.
#[derive(Debug)]
pub(super) struct Template {
    /// Path and query.
    pub(super) target: String,
    /// Host and port, as the URL has them.
    host: HeaderValue,
    /// The upstream's own headers, which replace those of the request.
    own: HeaderMap,
    /// The same, written.
    rendered: Vec<u8>,
}

impl Template {
    /// For this URL and the upstream's own headers, of which those that frame a message are dropped.
    pub(super) fn new(url: &http::Uri, headers: &HeaderMap) -> Self {
        let target = url.path_and_query().map_or("/", |target| target.as_str());
        // What stands before an `@` is not the host's business.
        let host = url.authority().map_or("", |authority| {
            let authority = authority.as_str();
            authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host)
        });
        let mut own = headers.clone();
        let host = own
            .remove(header::HOST)
            .or_else(|| HeaderValue::from_str(host).ok())
            .unwrap_or_else(|| HeaderValue::from_static(""));
        for name in headers.keys().filter(|name| is_framing(name)) {
            own.remove(name);
        }
        let mut rendered = Vec::new();
        write_fields(&mut rendered, &own);
        Self {
            target: target.to_owned(),
            host,
            own,
            rendered,
        }
    }

    /// Host and port that requests name.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Writes the head of a request with a body of `length` bytes.
    pub(super) fn render(
        &self,
        out: &mut Vec<u8>,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
        length: usize,
    ) {
        out.extend_from_slice(method.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        out.extend_from_slice(self.host.as_bytes());
        out.extend_from_slice(b"\r\naccept-encoding: identity\r\n");
        if length > 0 || *method == Method::POST {
            out.extend_from_slice(b"content-length: ");
            let mut digits = [0; 20];
            out.extend_from_slice(fields::decimal(length as u64, &mut digits));
            out.extend_from_slice(b"\r\n");
        }
        for (name, value) in headers {
            if !is_framing(name) && !self.own.contains_key(name) {
                write_field(out, name, value);
            }
        }
        out.extend_from_slice(&self.rendered);
        out.extend_from_slice(b"\r\n");
    }

    /// The headers of a request, for HTTP/2.
    pub(super) fn merge(&self, headers: &HeaderMap) -> HeaderMap {
        let mut merged = HeaderMap::with_capacity(headers.len() + self.own.len() + 1);
        merged.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        for (name, value) in headers {
            if !is_framing(name) && !self.own.contains_key(name) {
                merged.append(name, value.clone());
            }
        }
        for (name, value) in &self.own {
            merged.append(name, value.clone());
        }
        merged
    }
}

/// Headers that belong to the connection or are written here; nobody else's are sent.
fn is_framing(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host"
            | "content-length"
            | "transfer-encoding"
            | "connection"
            | "accept-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "expect"
            | "keep-alive"
            | "proxy-connection"
    )
}

fn write_fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        write_field(out, name, value);
    }
}

fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
