//! A client that leaves a stream and resumes it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use memchr::memmem;

use super::{Client, Identity, Reading};
use crate::message::Call;
use crate::wire::Body;

/// A stream that its client has left.
pub(crate) struct Left {
    identity: Identity,
    /// Of the last event.
    id: String,
    reading: Reading,
}

/// A stream that goes on after it was resumed.
pub(crate) struct Resumed {
    client: Client,
    body: Body,
    reading: Reading,
    is_over: bool,
}

impl Client {
    /// Makes a streamed call and leaves when an event has come that has an id.
    pub(crate) async fn begin(mut self, call: &Call) -> Result<Left> {
        let (mut body, mut text) = (self.begin_stream(call).await?, Vec::new());
        let mut reading = Reading {
            sequence: self.identity.sequence,
            bytes: call.bytes,
            ..Reading::default()
        };
        let (mut id, mut more) = (None, true);
        while reading.events == 0 {
            ensure!(more, "the stream ended at once");
            more = self.wire.some(&mut body, &mut text).await?;
            id = last_id(&text).or(id);
            let used = reading.take(&text, None)?;
            text.drain(..used);
        }
        Ok(Left {
            identity: self.leave(),
            id: id.context("the stream has no ids")?,
            reading,
        })
    }

    /// Makes a streamed call and leaves after its first event; the same session on another connection.
    pub(crate) async fn leave_within(mut self, call: &Call) -> Result<Self> {
        let body = self.begin_stream(call).await?;
        self.first_event(body).await?;
        let address = self.address;
        Self::visit(address, self.leave()).await
    }

    /// Resumes a stream at this node, and reads `behind` events of it.
    pub(crate) async fn resume(address: SocketAddr, left: Left, behind: u64) -> Result<Resumed> {
        let Left {
            identity,
            id,
            reading,
        } = left;
        let mut client = Self::visit(address, identity).await?;
        let headers = &client.headers;
        let request = format!("GET /mcp HTTP/1.1\r\n{headers}Last-Event-ID: {id}\r\n\r\n");
        client.wire.send(request.as_bytes()).await?;
        let head = client.wire.head().await?;
        let head = head.context("closed before an answer")?;
        ensure!(
            head.status() == 200 && head.event_stream,
            "resuming got {}",
            head.status()
        );
        let wanted = reading.events + behind;
        let mut resumed = Resumed {
            body: head.body,
            reading,
            client,
            is_over: false,
        };
        resumed.client.answer.clear();
        while resumed.reading.events < wanted {
            ensure!(!resumed.is_over, "the stream ended too early");
            resumed.some().await?;
        }
        Ok(resumed)
    }
}

impl Resumed {
    /// Reads to the end, which `call` must have come to with all of its events, each once.
    pub(crate) async fn end(mut self, call: &Call) -> Result<Identity> {
        while !self.is_over {
            self.some().await?;
        }
        ensure!(
            self.reading.finished && self.reading.events == call.events,
            "a resumed stream ended early"
        );
        Ok(self.client.leave())
    }

    async fn some(&mut self) -> Result<()> {
        let client = &mut self.client;
        let more = client.wire.some(&mut self.body, &mut client.answer).await?;
        let used = self.reading.take(&client.answer, None)?;
        client.answer.drain(..used);
        self.is_over = !more;
        Ok(())
    }
}

/// How long `work` took.
pub(crate) async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let done = work.await?;
    Ok((done, start.elapsed()))
}

/// The last id of the whole events in `text`.
fn last_id(text: &[u8]) -> Option<String> {
    let whole = &text[..memmem::rfind(text, b"\n\n")?];
    let mut lines = whole.rsplit(|byte| *byte == b'\n');
    let id = lines.find_map(|line| line.strip_prefix(b"id:"))?;
    Some(String::from_utf8_lossy(id.trim_ascii()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::last_id;

    #[test]
    fn an_id_counts_when_its_event_is_whole() {
        assert_eq!(last_id(b"id: a\ndata:\n"), None);
        assert_eq!(last_id(b"id: a\ndata:\n\nid: b\n").as_deref(), Some("a"));
        assert_eq!(last_id(b"id:a\n\nid:b\ndata: 1\n\n").as_deref(), Some("b"));
    }
}
