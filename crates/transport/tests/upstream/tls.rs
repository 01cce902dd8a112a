//! TLS to the upstream: whom it trusts, and that nothing else changes.

use std::sync::Arc;

use thinpipe_transport::upstream::{Tls, Upstream, UpstreamConfig, UpstreamError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::peer::{OK, post, text};

/// An authority of its own and a server with its certificate, which answers every read.
struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    pem: String,
}

async fn server() -> Server {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Server {
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        acceptor: TlsAcceptor::from(Arc::new(config)),
        pem: made.cert.pem(),
    }
}

impl Server {
    fn config(&self, host: &str) -> UpstreamConfig {
        let port = self.listener.local_addr().unwrap().port();
        let url = format!("https://{host}:{port}/mcp").parse().unwrap();
        UpstreamConfig::new("server".into(), url)
    }

    async fn serve(&self) {
        loop {
            let (socket, _) = self.listener.accept().await.unwrap();
            let Ok(mut stream) = self.acceptor.accept(socket).await else {
                continue;
            };
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                stream.write_all(OK.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    }
}

/// H1: resumption tickets arrive while the connection waits, and are no reason not to use it again.
#[tokio::test]
async fn h1_connections_with_tls_are_used_again() {
    let server = server().await;
    let tls = Tls::with_roots(server.pem.as_bytes()).unwrap();
    let upstream = Upstream::with_connector(server.config("localhost"), tls);
    let requests = async {
        for _ in 0..5 {
            let response = upstream.send(post("{}")).await.unwrap();
            assert_eq!(text(response).await, "{}");
        }
    };
    tokio::select! { () = requests => {}, () = server.serve() => {} }
    let stats = upstream.stats();
    assert_eq!((stats.connects, stats.reused), (1, 4));
}

#[tokio::test]
async fn certificates_are_checked() {
    let server = server().await;
    let ours = Tls::with_roots(server.pem.as_bytes()).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = Tls::with_roots(other.cert.pem().as_bytes()).unwrap();
    for (host, tls) in [
        ("127.0.0.1", ours.clone()),
        ("localhost", other),
        ("localhost", ours.with_http2(true)),
    ] {
        let upstream = Upstream::with_connector(server.config(host), tls);
        let answer = tokio::select! {
            answer = upstream.send(post("{}")) => answer,
            () = server.serve() => continue,
        };
        let error = answer.unwrap_err();
        assert!(matches!(error, UpstreamError::Connect { .. }), "{error:?}");
    }
}

#[test]
fn roots_must_be_certificates() {
    for pem in [
        "",
        "nonsense",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        assert!(Tls::with_roots(pem.as_bytes()).is_err(), "{pem}");
    }
}
