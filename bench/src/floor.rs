//! The floor: what hyper costs when a proxy does nothing at all. Its server, hyper-util's pooled
//! client, and the answer's body handed on frame by frame.

use std::net::SocketAddr;

use anyhow::Result;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::{Client, Error, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::server;

type Pool = Client<HttpConnector, Incoming>;

/// Proxies until the process is ended.
pub(crate) async fn serve(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let authority: Authority = upstream.to_string().parse()?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let pool: Pool = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector);
    let listener = server::listen(listen)?;
    let connections = TaskTracker::new();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        connections.spawn(connection(socket, pool.clone(), authority.clone()));
    }
}

async fn connection(socket: TcpStream, pool: Pool, authority: Authority) {
    let service = service_fn(move |request| forward(request, pool.clone(), authority.clone()));
    // A connection that breaks is its client's to report.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(socket), service)
        .await;
}

async fn forward(
    mut request: Request<Incoming>,
    pool: Pool,
    authority: Authority,
) -> Result<Response<Incoming>, Error> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(parts).expect("a path, a scheme and an authority");
    pool.request(request).await
}
