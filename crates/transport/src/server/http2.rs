//! HTTP/2 with prior knowledge, framed by hyper. Requests go the same way as those of HTTP/1.1.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::io::{Io, now};
use crate::server::Shared;
use crate::server::permit::{Budget, add};
use crate::server::service::{STREAM_BUFFER, ServiceBody, answer};

/// Bytes of the connection preface (RFC 9113 3.4).
const PREFACE: usize = 24;

/// Requests at one time on one connection.
const MAX_CONCURRENT: u32 = 256;

/// Serves an HTTP/2 connection of which `input` has been read already.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    mut io: Box<dyn Io>,
    mut input: Vec<u8>,
    peer: Option<SocketAddr>,
) {
    let limits = shared.config.limits;
    let opened = now();
    let preface = async {
        while input.len() < PREFACE {
            if !matches!(io.read_buf(&mut input).await, Ok(1..)) {
                return false;
            }
        }
        true
    };
    if !matches!(
        tokio::time::timeout(limits.head_timeout, preface).await,
        Ok(true)
    ) {
        return;
    }
    let open = Budget::new(usize::MAX);
    let forced = shared.forced.clone();
    let leaving = CancellationToken::new();
    let closes = {
        let (shared, leaving) = (Arc::clone(&shared), leaving.clone());
        async move {
            tokio::select! {
                // Cancel-safe: a token stays cancelled, and so is the other future looked at again.
                () = leaving.cancelled() => {}
                () = shared.closes(opened) => {}
            }
        }
    };
    let mut closes = std::pin::pin!(closes);
    let requests = open.clone();
    // Short requests come and go between two looks.
    let requests_seen = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&requests_seen);
    let service = service_fn(move |request| {
        add(&counted);
        let shared = Arc::clone(&shared);
        let permit = requests.take();
        let (requests, leaving) = (requests.clone(), leaving.clone());
        async move {
            let answered = answer(shared, request, peer).await;
            // Who is turned away had better go; but not if others still use the connection.
            if answered.is_turned_away && requests.used() == 1 {
                leaving.cancel();
            }
            Ok::<_, Infallible>(answered.response.map(|body| ServiceBody::new(body, permit)))
        }
    });
    let max_head = u32::try_from(limits.max_head).unwrap_or(u32::MAX);
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CONCURRENT)
        .max_header_list_size(max_head)
        .max_send_buf_size(STREAM_BUFFER)
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.head_timeout)
        .serve_connection(TokioIo::new(Rewound { io, input, at: 0 }), service);
    let mut connection = std::pin::pin!(connection);
    let mut shutting_down = false;
    let (mut unused_since, mut seen) = (now(), 0);
    let mut look = tokio::time::interval(limits.idle_timeout / 4);
    loop {
        let asked = requests_seen.load(Ordering::Relaxed);
        if open.used() > 0 || asked != seen {
            (unused_since, seen) = (now(), asked);
        }
        tokio::select! {
            done = connection.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!(%error, "an HTTP/2 connection failed");
                }
                return;
            }
            // Cancel-safe: it goes on where it was. Not as soon as the server drains: a connection that
            // shuts down takes no more requests, and a call may wait for one of its client's.
            () = closes.as_mut(), if !shutting_down => {
                shutting_down = true;
                connection.as_mut().graceful_shutdown();
            }
            // Cancel-safe: a tick that is missed comes again. Answering pings is not using it.
            _ = look.tick(), if !shutting_down => {
                if now() >= unused_since + limits.idle_timeout {
                    shutting_down = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            // Cancel-safe: a token stays cancelled. Replies end themselves; whoever does not read
            // them is left after a last chance.
            () = forced.cancelled() => {
                let _ = tokio::time::timeout(limits.write_stall, connection.as_mut()).await;
                return;
            }
        }
    }
}

/// A connection with the bytes that were read to find out what it speaks put back in front.
struct Rewound {
    io: Box<dyn Io>,
    input: Vec<u8>,
    at: usize,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at < self.input.len() {
            let take = buf.remaining().min(self.input.len() - self.at);
            let from = self.at;
            buf.put_slice(&self.input[from..from + take]);
            self.at += take;
            if self.at == self.input.len() {
                self.input = Vec::new();
                self.at = 0;
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
