//! Where a server says that its clients should go: `Link` with `rel="successor-version"` (RFC 5829).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use thinpipe_proto::shown::Shown;
use thinpipe_transport::upstream::{Upstream, UpstreamRequest};

/// Bytes of an address that are shown.
const MAX_SHOWN: usize = 300;

/// What a server says of its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Successor {
    /// Where to go, made presentable.
    pub(super) url: String,
    /// The address that was asked is not served any more: 410.
    pub(super) is_gone: bool,
}

/// Asks with a GET for an event stream, which is closed again.
pub(super) async fn ask(upstream: &Upstream) -> Option<Successor> {
    let mut headers = HeaderMap::new();
    let accept = HeaderValue::from_static("text/event-stream");
    headers.insert(header::ACCEPT, accept);
    let request = UpstreamRequest {
        method: Method::GET,
        headers,
        body: Bytes::new(),
        repeatable: true,
    };
    let response = upstream.send(request).await.ok()?;
    let url = &upstream.config().url;
    let links = response.headers.get_all(header::LINK);
    let target = links.iter().find_map(|link| target(link.to_str().ok()?))?;
    Some(Successor {
        url: Shown::new(&resolved(url, target), MAX_SHOWN).to_string(),
        is_gone: response.status == StatusCode::GONE,
    })
}

/// The address of the link that leads to a successor.
fn target(links: &str) -> Option<&str> {
    let mut rest = links;
    loop {
        let (_, inside) = rest.split_once('<')?;
        let (target, after) = inside.split_once('>')?;
        // The parameters of a link end where the next link begins.
        let parameters = after.split('<').next().unwrap_or_default();
        let leads = parameters.split([';', ',']).any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
            name.trim().eq_ignore_ascii_case("rel")
                && relations.any(|it| it.eq_ignore_ascii_case("successor-version"))
        });
        if leads {
            return Some(target);
        }
        rest = after;
    }
}

/// A path is one of the same origin.
fn resolved(url: &Uri, target: &str) -> String {
    let scheme = url.scheme_str().unwrap_or("http");
    match url.authority() {
        Some(authority) if target.starts_with('/') && !target.starts_with("//") => {
            format!("{scheme}://{authority}{target}")
        }
        _ => target.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A24: what servers write is found, and nothing else.
    #[test]
    fn a24_the_successor_is_found_among_links() {
        for (links, found) in [
            ("</mcp>; rel=\"successor-version\"", Some("/mcp")),
            (
                "<https://d/>; rel=\"deprecation\"; type=\"text/html\", </mcp>; rel=successor-version",
                Some("/mcp"),
            ),
            (
                "</mcp>; title=\"a\"; REL=\"next Successor-Version\"",
                Some("/mcp"),
            ),
            ("</mcp>; rel=\"deprecation\"", None),
            ("rel=\"successor-version\"", None),
            ("", None),
        ] {
            assert_eq!(target(links), found, "{links}");
        }
        let url = "http://h:1/sse".parse().unwrap();
        assert_eq!(resolved(&url, "/mcp"), "http://h:1/mcp");
        assert_eq!(resolved(&url, "https://other/mcp"), "https://other/mcp");
    }
}
