//! URLs of servers.

use std::net::{IpAddr, SocketAddr};

use http::Uri;
use http::uri::Scheme;
use thinpipe_transport::upstream::port;

use crate::cli::is_program;

/// A URL that can be an upstream's, or what is wrong with it and how to mend it.
pub(super) fn parse_url(text: &str, listen: SocketAddr) -> Result<Uri, (String, String)> {
    let example = "http://127.0.0.1:3001/mcp";
    let wrong = |what: &str, mend: String| Err((format!("`{text}` {what}"), mend));
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    if authority
        .split(['/', '?', '#'])
        .next()
        .is_some_and(|authority| authority.contains('@'))
    {
        // Before anything else is said: the URL itself would show the password.
        return Err((
            "the URL holds a user name or a password".to_owned(),
            "put credentials into `headers`: `Authorization = \"Basic ${CREDENTIALS}\"`".to_owned(),
        ));
    }
    if !text.contains("://") {
        let mend = match format!("http://{text}").parse::<Uri>() {
            Ok(url)
                if url
                    .host()
                    .is_some_and(|h| h.contains(['.', ':']) || h == "localhost") =>
            {
                // Hardly a server has its endpoint at its root.
                match url.path() {
                    "/" => format!(
                        "write `http://{}/mcp`, or whatever the path of its MCP endpoint is",
                        text.trim_end_matches('/')
                    ),
                    _ => format!("write `http://{text}`"),
                }
            }
            _ if is_program(text) => {
                format!(
                    "write it as in {example}; to run a program, write `command` instead of `url`"
                )
            }
            _ => format!("write it as in {example}"),
        };
        return wrong("is no URL", mend);
    }
    if text.contains('#') {
        return wrong("has a fragment", "remove what begins with `#`".to_owned());
    }
    let Ok(url) = text.parse::<Uri>() else {
        return wrong("is no URL", format!("write it as in {example}"));
    };
    if url.authority().is_none() {
        return wrong("names no host", format!("write it as in {example}"));
    }
    if url.scheme() != Some(&Scheme::HTTP) && url.scheme() != Some(&Scheme::HTTPS) {
        return wrong(
            "has a scheme that is not served",
            format!("write it as in {example}"),
        );
    }
    if port(&url).is_none() {
        let mend = "write a port from 1 to 65535, or none".to_owned();
        return wrong("names a port that does not exist", mend);
    }
    if points_to(&url, listen) {
        let mend = "give the server's own address, or listen on another".to_owned();
        return wrong("is the address that the gateway itself listens on", mend);
    }
    Ok(url)
}

/// Whether a request to the URL would come back to the listener.
fn points_to(url: &Uri, listen: SocketAddr) -> bool {
    let host = url.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<IpAddr>().ok();
    let here = match address {
        Some(address) => {
            address == listen.ip() || (address.is_loopback() && listen.ip().is_unspecified())
        }
        None => host.eq_ignore_ascii_case("localhost") && listen.ip().is_loopback(),
    };
    here && listen.port() != 0 && port(url) == Some(listen.port())
}
