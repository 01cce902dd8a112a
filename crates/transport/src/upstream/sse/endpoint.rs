//! The endpoint of an HTTP+SSE session: a URI reference against the URL of the stream.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use thinpipe_proto::shown::Shown;

use crate::upstream::pipe::PipeError;
use crate::upstream::redirect;
use crate::upstream::{MAX_SHOWN, UpstreamConfig};

/// Path and query to post to. The query is kept as it is.
///
/// # Errors
/// [`PipeError::BadEndpoint`] if it lies at another origin, or nobody can be sure where it lies.
pub(super) fn resolve(
    config: &UpstreamConfig,
    endpoint: &Bytes,
) -> Result<PathAndQuery, PipeError> {
    place(config, endpoint).map_err(|why| {
        let shown = endpoint.split(|byte| *byte == b'?').next();
        PipeError::BadEndpoint {
            upstream: Arc::clone(&config.name),
            endpoint: format!("{:?}", Shown::new(shown.unwrap_or_default(), MAX_SHOWN)),
            why,
        }
    })
}

fn place(config: &UpstreamConfig, endpoint: &[u8]) -> Result<PathAndQuery, &'static str> {
    const UNCLEAR: &str = "it is no URI reference that leads anywhere";
    let endpoint = str::from_utf8(endpoint).map_err(|_| UNCLEAR)?.trim();
    if endpoint.is_empty() {
        return Err("it is empty");
    }
    let (base, endpoint) = climb(config.url.path(), endpoint).ok_or(UNCLEAR)?;
    let target = redirect::resolve(&config.url, base, endpoint).ok_or(UNCLEAR)??;
    target.parse().map_err(|_| UNCLEAR)
}

/// Takes the `./` and `../` at the beginning of a relative reference off, and for each of the latter one
/// folder off the path it is relative to (RFC 3986 5.2.4). `None`: there is none to take off.
fn climb<'a>(mut base: &'a str, mut reference: &'a str) -> Option<(&'a str, &'a str)> {
    loop {
        if let Some(rest) = reference.strip_prefix("./") {
            reference = rest;
        } else if let Some(rest) = reference.strip_prefix("../") {
            let folder = base.rfind('/')?;
            let parent = base[..folder].rfind('/')?;
            base = &base[..=parent];
            reference = rest;
        } else {
            return Some((base, reference));
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;

    fn to(endpoint: &'static str) -> Result<String, String> {
        let url = Uri::from_static("http://a.example/base/v1/sse?key=1");
        let config = UpstreamConfig::new("server".into(), url);
        resolve(&config, &Bytes::from_static(endpoint.as_bytes()))
            .map(|target| target.as_str().to_owned())
            .map_err(|error| error.to_string())
    }

    /// R046, R048.
    #[test]
    fn r046_references_are_resolved_and_queries_kept() {
        for (endpoint, target) in [
            ("/messages?sessionId=5e-0c", "/messages?sessionId=5e-0c"),
            ("/messages/?session_id=0a1b", "/messages/?session_id=0a1b"),
            ("messages?x=%2F&y", "/base/v1/messages?x=%2F&y"),
            ("./messages", "/base/v1/messages"),
            ("../messages", "/base/messages"),
            ("../../messages", "/messages"),
            ("?sessionId=1", "/base/v1/sse?sessionId=1"),
            ("http://a.example/m?a=b?c", "/m?a=b?c"),
            ("http://A.example:80/m", "/m"),
            ("//a.example/m", "/m"),
        ] {
            assert_eq!(to(endpoint).as_deref(), Ok(target), "{endpoint}");
        }
    }

    /// R047: and the session's secret is not in the error.
    #[test]
    fn r047_other_origins_are_refused() {
        for endpoint in [
            "https://a.example/m?secret",
            "http://b.example/m?secret",
            "http://a.example:81/m?secret",
            "//b.example/m?secret",
            "http://a.example@b.example/?secret",
            "../../../messages?secret",
            "/a/../b?secret",
            "a b?secret",
            "",
        ] {
            let refused = to(endpoint).unwrap_err();
            assert!(!refused.contains("secret"), "{refused}");
            assert!(refused.contains("not used"), "{refused}");
        }
    }
}
