//! One end of a connection.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep_until};

use super::Network;
use super::pipe::Found;
use super::state::Link;

/// One end of a connection. Dropping it closes it: what was written still arrives.
pub struct Socket {
    network: Network,
    link: u64,
    /// Which of the two ends.
    side: usize,
    /// Until the next bytes arrive.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(network: Network, link: u64, side: usize) -> Self {
        Self {
            network,
            link,
            side,
            arrival: None,
        }
    }

    /// Looks at the connection; an error if it was reset.
    fn with_link<R>(&self, look: impl FnOnce(&mut Link) -> R) -> io::Result<R> {
        let mut state = self.network.state();
        let link = state.links.get_mut(&self.link);
        link.map(look)
            .ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }

    fn poll_found(&self, cx: &Context<'_>, out: &mut ReadBuf<'_>) -> io::Result<Found> {
        let (found, writer, replaced) = self.with_link(|link| {
            let pipe = &mut link.pipes[1 - self.side];
            let found = pipe.read(out);
            match found {
                Found::Bytes => (found, pipe.writer.take(), None),
                // Also if something arrives later: it may be lost before.
                _ => {
                    let replaced = pipe.reader.replace(cx.waker().clone());
                    (found, None, replaced)
                }
            }
        })?;
        // Woken and dropped only when the network is not locked: either may run code of others.
        writer.into_iter().for_each(Waker::wake);
        // Not woken: it may be this task's own, under another name, which then would never come to rest.
        drop(replaced);
        Ok(found)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.poll_found(cx, out)? {
                Found::Bytes | Found::End => return Poll::Ready(Ok(())),
                Found::Nothing => {
                    self.arrival = None;
                    return Poll::Pending;
                }
                Found::Later(at) => {
                    let sleep = self
                        .arrival
                        .get_or_insert_with(|| Box::pin(sleep_until(at)));
                    if sleep.deadline() != at {
                        sleep.as_mut().reset(at);
                    }
                    std::task::ready!(sleep.as_mut().poll(cx));
                }
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = self.with_link(|link| {
            let closed = link.pipes[1 - self.side].has_ended() && !link.open[1 - self.side];
            let pipe = &mut link.pipes[self.side];
            if pipe.is_closed() || closed {
                return (Err(io::ErrorKind::BrokenPipe), None);
            }
            let room = pipe.room().min(bytes.len());
            let waits = room == 0 && !bytes.is_empty();
            let old = waits.then(|| pipe.writer.replace(cx.waker().clone()));
            (Ok(room), old.flatten())
        });
        let (room, replaced) = room?;
        // When the network is not locked.
        drop(replaced);
        let room = room?;
        if room == 0 && !bytes.is_empty() {
            return Poll::Pending;
        }
        self.network
            .send(self.link, self.side, Bytes::copy_from_slice(&bytes[..room]));
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.network.close(self.link, self.side, false);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.network.close(self.link, self.side, true);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("link", &self.link)
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}
