//! TLS for `https` upstreams: rustls, with the certificates the system trusts or those given.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use http::Uri;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, InvalidMessage};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::connect::{Connect, address, open};
use crate::body::BoxFuture;
use crate::io::Io;

/// Connects with TLS. Cheap to clone; clones share the sessions that servers let be resumed.
#[derive(Clone)]
pub struct Tls {
    http1: TlsConnector,
    http2: TlsConnector,
    prefer_http2: bool,
}

impl Tls {
    /// Trusts the certificates that the system trusts; they are read once in a process.
    ///
    /// # Errors
    /// If the system has none that can be read.
    pub fn new() -> io::Result<Self> {
        static SYSTEM: OnceLock<Tls> = OnceLock::new();
        if let Some(tls) = SYSTEM.get() {
            return Ok(tls.clone());
        }
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        // Some systems have a certificate or two that nobody can parse.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let reason = "the system has no trusted certificates";
            return Err(io::Error::new(io::ErrorKind::NotFound, reason));
        }
        let tls = Self::build(roots)?;
        Ok(SYSTEM.get_or_init(|| tls).clone())
    }

    /// Trusts these certificates (PEM) and no others: a private authority's, for example.
    ///
    /// # Errors
    /// If there is none among them, or one that is no certificate.
    pub fn with_roots(pem: &[u8]) -> io::Result<Self> {
        let invalid = |error: &dyn fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidData, error.to_string())
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| invalid(&error))?;
            roots.add(certificate).map_err(|error| invalid(&error))?;
        }
        if roots.is_empty() {
            return Err(invalid(&"no certificate in the PEM text"));
        }
        Self::build(roots)
    }

    /// Offers HTTP/2, for upstreams with [`http2`](super::UpstreamConfig::http2). Default: HTTP/1.1.
    #[must_use]
    pub fn with_http2(mut self, http2: bool) -> Self {
        self.prefer_http2 = http2;
        self
    }

    fn build(roots: RootCertStore) -> io::Result<Self> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let offering = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self {
            http1: offering(b"http/1.1"),
            http2: offering(b"h2"),
            prefer_http2: false,
        })
    }
}

impl Connect for Tls {
    fn connect(&self, url: &Uri) -> BoxFuture<io::Result<Box<dyn Io>>> {
        let address = address(url);
        let http2 = self.prefer_http2;
        let connector = if http2 { &self.http2 } else { &self.http1 }.clone();
        Box::pin(async move {
            let (host, port) = address?;
            let stream = open(&host, port).await?;
            let name = ServerName::try_from(host)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let connected = connector.connect(name, stream).await;
            let stream = connected.map_err(explained)?;
            if http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                return Err(io::Error::other("the server does not speak HTTP/2"));
            }
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

/// A server that answers in plain HTTP breaks the first rule of TLS there is, which says little to people.
fn explained(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => io::Error::new(
            error.kind(),
            "it does not speak TLS: is its URL one of http:// instead of https://?",
        ),
        _ => error,
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("prefer_http2", &self.prefer_http2)
            .finish_non_exhaustive()
    }
}
