//! A stream of events that is written by an async function, polled by the socket it goes to.

use std::fmt;
use std::future::Future;
use std::task::{Context, Poll};

use bytes::BytesMut;
use serde_json::{Value, json};
use thinpipe_proto::sse;
use thinpipe_transport::body::{BodyError, BodyStream, BoxFuture, Filled};
use tokio::sync::mpsc;

/// The stream. No task runs for it: whoever reads it drives it, and who stops reading stops it.
pub(crate) struct Events {
    script: Option<BoxFuture<()>>,
    ready: mpsc::Receiver<BytesMut>,
}

/// Where the function writes its events to.
#[derive(Debug)]
pub(crate) struct Sink {
    events: mpsc::Sender<BytesMut>,
}

impl Events {
    /// A stream of what `script` sends; it ends with it.
    pub(crate) fn new<F>(script: impl FnOnce(Sink) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // One event: the script waits until it is taken.
        let (events, ready) = mpsc::channel(1);
        Self {
            script: Some(Box::pin(script(Sink { events }))),
            ready,
        }
    }
}

impl BodyStream for Events {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Filled, BodyError>> {
        loop {
            match self.ready.poll_recv(cx) {
                Poll::Ready(Some(event)) => {
                    out.extend_from_slice(&event);
                    return Poll::Ready(Ok(Filled::More));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(Filled::End)),
                Poll::Pending => {}
            }
            // With the script its sink goes, and the channel reports its end.
            let Some(script) = &mut self.script else {
                return Poll::Ready(Ok(Filled::End));
            };
            if script.as_mut().poll(cx).is_ready() {
                self.script = None;
            } else if self.ready.is_empty() {
                return Poll::Pending;
            }
        }
    }
}

impl Sink {
    /// Sends one message as an event.
    pub(crate) async fn send(&self, message: &[u8]) {
        let mut event = BytesMut::new();
        sse::encode(&mut event, Some(b"message"), None, None, Some(message));
        // The reader is gone: the script is dropped with it in a moment.
        let _ = self.events.send(event).await;
    }

    /// Sends a notification.
    pub(crate) async fn notify(&self, method: &str, params: &Value) {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        self.send(message.to_string().as_bytes()).await;
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn read(mut events: Events) -> String {
        let mut out = Vec::new();
        while poll_fn(|cx| events.poll_fill(cx, &mut out)).await.unwrap() != Filled::End {}
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn everything_that_is_sent_is_read_in_order() {
        let events = Events::new(|sink| async move {
            for number in 0..5 {
                sink.send(number.to_string().as_bytes()).await;
            }
        });
        let text = read(events).await;
        let data: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .collect();
        assert_eq!(data, ["0", "1", "2", "3", "4"]);
    }

    #[tokio::test]
    async fn a_script_that_sends_nothing_ends_the_stream() {
        assert_eq!(
            read(Events::new(|sink| async move { drop(sink) })).await,
            ""
        );
    }

    /// C25: a reader that does not read stops the writer, with one event on its way.
    #[tokio::test]
    async fn c25_nothing_is_written_ahead_of_the_reader() {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let mut events = Events::new(move |sink| async move {
            loop {
                sink.send(b"x").await;
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut out = Vec::new();
        poll_fn(|cx| events.poll_fill(cx, &mut out)).await.unwrap();
        assert!(sent.load(Ordering::Relaxed) <= 2);
    }
}
