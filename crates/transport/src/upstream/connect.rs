//! Making a connection: TCP by default, anything else through [`Connect`].

use std::fmt;
use std::io;
use std::sync::Arc;

use http::Uri;
use tokio::net::TcpStream;

use crate::body::BoxFuture;
use crate::io::Io;

/// Opens connections to an upstream: Unix sockets, tunnels, pipes in a test.
pub trait Connect: Send + Sync + 'static {
    /// Opens one connection to the host of this URL. The caller bounds the time; dropping the future
    /// gives up.
    fn connect(&self, url: &Uri) -> BoxFuture<io::Result<Box<dyn Io>>>;
}

impl<F> Connect for F
where
    F: Fn(&Uri) -> BoxFuture<io::Result<Box<dyn Io>>> + Send + Sync + 'static,
{
    fn connect(&self, url: &Uri) -> BoxFuture<io::Result<Box<dyn Io>>> {
        self(url)
    }
}

/// A way to make connections, to be told with an upstream: see
/// [`UpstreamConfig::connector`](super::UpstreamConfig::connector).
#[derive(Clone)]
pub struct Connector(pub(super) Arc<dyn Connect>);

impl Connector {
    /// Connections are made by `connect`.
    #[must_use]
    pub fn new(connect: impl Connect) -> Self {
        Self(Arc::new(connect))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// TCP for `http`, without delay of small writes.
#[derive(Debug)]
struct Tcp;

impl Connect for Tcp {
    fn connect(&self, url: &Uri) -> BoxFuture<io::Result<Box<dyn Io>>> {
        let address = address(url);
        Box::pin(async move {
            let (host, port) = address?;
            Ok(Box::new(open(&host, port).await?) as Box<dyn Io>)
        })
    }
}

/// What cannot be reached with what was compiled in.
struct Unsupported(String);

impl Connect for Unsupported {
    fn connect(&self, _: &Uri) -> BoxFuture<io::Result<Box<dyn Io>>> {
        let error = io::Error::new(io::ErrorKind::Unsupported, self.0.clone());
        Box::pin(std::future::ready(Err(error)))
    }
}

/// The way to reach this URL, by its scheme.
pub(super) fn by_scheme(url: &Uri, http2: bool) -> Arc<dyn Connect> {
    match url.scheme_str() {
        Some("http") => Arc::new(Tcp),
        Some("https") => secure(http2),
        Some(other) => Arc::new(Unsupported(format!("no way to reach a {other} URL"))),
        None => Arc::new(Unsupported("the URL has no scheme".to_owned())),
    }
}

#[cfg(feature = "tls")]
fn secure(http2: bool) -> Arc<dyn Connect> {
    match super::Tls::new() {
        Ok(tls) => Arc::new(tls.with_http2(http2)),
        Err(error) => Arc::new(Unsupported(format!("no TLS: {error}"))),
    }
}

#[cfg(not(feature = "tls"))]
fn secure(_: bool) -> Arc<dyn Connect> {
    Arc::new(Unsupported(
        "compiled without TLS (feature `tls`)".to_owned(),
    ))
}

/// The port a URL names, or the one its scheme implies. `None`: what it names is no port from 1 to
/// 65535, and what was meant for that place must not go to another.
#[must_use]
pub fn port(url: &Uri) -> Option<u16> {
    let authority = url.authority()?.as_str();
    let place = authority.rsplit('@').next().unwrap_or_default();
    match place.strip_prefix(url.host()?)? {
        // RFC 3986 3.2.3: an empty port is the scheme's.
        "" | ":" if url.scheme_str() == Some("https") => Some(443),
        "" | ":" => Some(80),
        named => {
            let digits = named.strip_prefix(':')?;
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|&port| is_number && port > 0)
        }
    }
}

/// Host (without the brackets of IPv6) and port.
pub(super) fn address(url: &Uri) -> io::Result<(String, u16)> {
    let host = url.host().unwrap_or_default();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let invalid = |reason| io::Error::new(io::ErrorKind::InvalidInput, reason);
    if host.is_empty() {
        return Err(invalid("the URL has no host"));
    }
    let port = port(url).ok_or_else(|| invalid("the port in the URL is not from 1 to 65535"))?;
    Ok((host.to_owned(), port))
}

pub(super) async fn open(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    // Heads and bodies are written whole: waiting to fill a segment would only add a round trip.
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I5: what is no port is not replaced by one.
    #[test]
    fn i5_a_port_that_is_none_is_no_other() {
        for (url, expected) in [
            ("http://h/", Some(80)),
            ("https://h/", Some(443)),
            ("http://h:/", Some(80)),
            ("https://u@h:8443/", Some(8443)),
            ("http://[::1]:81/", Some(81)),
            ("http://h:65535/", Some(65535)),
            ("http://h:65536/", None),
            ("https://h:99999/", None),
            ("http://h:0/", None),
            ("http://[::1]:99999/", None),
            ("/mcp", None),
        ] {
            let url: Uri = url.parse().expect(url);
            assert_eq!(port(&url), expected, "{url}");
        }
        let url = Uri::from_static("http://h:99999/mcp");
        let error = address(&url).unwrap_err().to_string();
        assert!(error.contains("1 to 65535"), "{error}");
    }
}
