//! The floor of a server: what hyper costs when it answers the bytes that the library's server answers.
//! It reads no JSON, keeps no session and checks nothing.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use crate::message::{Call, SESSIONS, number_after, put};

/// Serves until the process is ended.
pub(crate) async fn serve(address: SocketAddr) -> Result<()> {
    accept(super::listen(address)?).await
}

pub(super) async fn accept(listener: TcpListener) -> Result<()> {
    let connections = TaskTracker::new();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        connections.spawn(connection(socket));
    }
}

async fn connection(socket: TcpStream) {
    // A connection that breaks is its client's to report.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(socket), service_fn(answer))
        .await;
}

async fn answer(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let body = request.into_body().collect().await?.to_bytes();
    Ok(reply(&body))
}

fn reply(request: &[u8]) -> Response<Full<Bytes>> {
    let Some(id) = number_after(request, b"\"id\":") else {
        let mut accepted = Response::new(Full::default());
        *accepted.status_mut() = StatusCode::ACCEPTED;
        return accepted;
    };
    let mut out = Vec::with_capacity(512);
    put(
        &mut out,
        format_args!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"#),
    );
    let greeting = memmem::find(request, b"\"initialize\"").is_some();
    if greeting {
        put(
            &mut out,
            format_args!(r#""protocolVersion":"{SESSIONS}"}}}}"#),
        );
    } else {
        let number = |key: &[u8]| number_after(request, key).unwrap_or_default();
        let call = Call {
            sequence: number(b"\"sequence\":"),
            bytes: usize::try_from(number(b"\"bytes\":")).unwrap_or_default(),
            ..Call::default()
        };
        out.extend_from_slice(br#""content":[{"text":""#);
        call.text(&mut out);
        out.extend_from_slice(br#"","type":"text"}]}}"#);
    }
    let mut response = Response::new(Full::from(out));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if greeting {
        headers.insert("mcp-session-id", HeaderValue::from_static("bare"));
    }
    response
}
