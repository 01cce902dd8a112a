//! Making a connection: TCP by default, anything else through [`Connect`].

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

/// TCP for `http`, without delay of small writes.
#[derive(Debug)]
struct Tcp;

impl Connect for Tcp {
    fn connect(&self, url: &Uri) -> BoxFuture<io::Result<Box<dyn Io>>> {
        let address = address(url, 80);
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

/// Host (without the brackets of IPv6) and port.
pub(super) fn address(url: &Uri, port: u16) -> io::Result<(String, u16)> {
    let host = url.host().unwrap_or_default();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        let reason = "the URL has no host";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok((host.to_owned(), url.port_u16().unwrap_or(port)))
}

pub(super) async fn open(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    // Heads and bodies are written whole: waiting to fill a segment would only add a round trip.
    stream.set_nodelay(true)?;
    Ok(stream)
}
