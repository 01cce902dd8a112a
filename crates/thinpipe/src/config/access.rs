//! Names of hosts and web origins, in the form that requests are compared with.

use http::Uri;
use thinpipe_transport::upstream::port;

/// What to write instead of a port that is none.
const NO_PORT: &str = "write a port from 1 to 65535, or none";

/// A host name, perhaps with a port, in lower case.
///
/// # Errors
/// What to write instead.
pub(super) fn host(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_lowercase();
    if name.contains("://") || name.contains('/') {
        let host = name
            .split_once("://")
            .map_or(name.as_str(), |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or_default();
        return Err(format!("write the name alone: `{host}`"));
    }
    if name.contains('*') {
        return Err("name each host in full, or write \"*\" for all".to_owned());
    }
    match name.parse::<http::uri::Authority>() {
        Ok(authority) if !authority.as_str().contains('@') && !authority.host().is_empty() => {
            let url = Uri::builder().scheme("http").authority(authority);
            let url = url.path_and_query("/").build().ok();
            url.as_ref().and_then(port).ok_or(NO_PORT)?;
            Ok(name)
        }
        _ => Err("write a name such as mcp.example.com, with or without a port".to_owned()),
    }
}

/// An origin: `scheme://host[:port]` in lower case, without the port its scheme implies.
///
/// # Errors
/// What to write instead.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let origin = text.trim().to_ascii_lowercase();
    if origin == "null" {
        return Ok(origin);
    }
    let help = || "write it as browsers send it: https://app.example.com".to_owned();
    let (scheme, rest) = origin.split_once("://").ok_or_else(help)?;
    if rest.contains(['/', '?', '#', '@', '*']) {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        return Err(match host.contains('*') {
            true => "name each origin in full; there are no wildcards".to_owned(),
            false => format!("an origin has no path: `{scheme}://{host}`"),
        });
    }
    let uri: Uri = origin.parse().map_err(|_| help())?;
    let host = uri
        .host()
        .filter(|host| !host.is_empty())
        .ok_or_else(help)?;
    let port = port(&uri).ok_or(NO_PORT)?;
    Ok(match (scheme, uri.port_u16()) {
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => format!("{scheme}://{host}"),
        (_, Some(_)) => format!("{scheme}://{host}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B18
    #[test]
    fn b18_hosts_are_names_with_or_without_a_port() {
        for (text, expected) in [
            ("MCP.Example.com", "mcp.example.com"),
            ("mcp.example.com:8443", "mcp.example.com:8443"),
            ("10.0.0.7", "10.0.0.7"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(expected));
        }
        for text in [
            "",
            "https://mcp.example.com",
            "a/b",
            "a b",
            "*.example.com",
            "u@h",
            "h:99999",
        ] {
            assert!(host(text).is_err(), "{text}");
        }
    }

    /// B18
    #[test]
    fn b18_origins_are_lower_case_without_default_ports() {
        for (text, expected) in [
            ("https://App.Example.com", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://app.example.com:80", "http://app.example.com"),
            ("http://app.example.com:3000", "http://app.example.com:3000"),
            ("null", "null"),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(expected));
        }
        for text in [
            "app.example.com",
            "https://a/b",
            "https://*.example.com",
            "*",
            "https://",
            "https://u@a",
            "https://a:99999",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
