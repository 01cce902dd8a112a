//! What both sides need of a connection: any byte stream, one read buffer a thread, lazy timers, and a
//! clock that is read once a poll.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::{self, Read, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::body::BoxFuture;

/// A connection: TCP, TLS or a pipe in a test.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + Any {
    /// Whether the peer is known to send nothing more, although what it did send has not been read.
    /// Never waits, and nobody is woken when it changes. `false` where only reading can tell.
    fn is_read_closed(&self) -> bool;
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {
    fn is_read_closed(&self) -> bool {
        let Some(tcp) = tcp(self) else {
            return false;
        };
        // With bytes to read it is ready at once, and says what else it has heard.
        let ready = pin!(tcp.ready(Interest::READABLE));
        let polled = ready.poll(&mut Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }
}

/// The TCP connection that this is, if it is one.
pub(crate) fn tcp(io: &dyn Any) -> Option<&TcpStream> {
    match io.downcast_ref::<Box<dyn Io>>() {
        Some(boxed) => tcp(&**boxed),
        None => io.downcast_ref(),
    }
}

/// Takes a TCP connection out of the runtime's sight: what comes on it wakes nobody, and a read that finds
/// nothing is [`Poll::Pending`] without a waker. Whoever reads it has to come back by the clock. Any
/// other connection stays as it is: `false`.
pub(crate) fn unwatch(io: &mut Box<dyn Io>) -> bool {
    let any: &dyn Any = &**io;
    if !any.is::<TcpStream>() {
        return false;
    }
    let watched = std::mem::replace(io, Box::new(tokio::io::empty()));
    let watched: Box<dyn Any> = watched;
    // If it cannot be taken out it is lost, and the end of the stream is what its reader sees.
    if let Ok(watched) = watched.downcast::<TcpStream>()
        && let Ok(unwatched) = watched.into_std()
    {
        *io = Box::new(Unwatched(unwatched));
    }
    true
}

/// A connection that is looked at now and then.
struct Unwatched(std::net::TcpStream);

impl Unwatched {
    fn poll<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
        match result {
            Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => Poll::Pending,
            done => Poll::Ready(done),
        }
    }
}

impl AsyncRead for Unwatched {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = (&self.0).read(buf.initialize_unfilled());
        Self::poll(read.map(|n| buf.advance(n)))
    }
}

impl AsyncWrite for Unwatched {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Self::poll((&self.0).write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll(self.0.shutdown(std::net::Shutdown::Write))
    }
}

/// Bytes read from a socket at once. It bounds what one stalled reader can pin in memory, and is
/// large enough that a busy stream is moved with few system calls.
pub(crate) const READ_SIZE: usize = 24 << 10;

thread_local! {
    /// Connections that wait own no read buffer: thousands of idle streams share this one. It is
    /// borrowed only inside one poll, never across an await.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
}

/// Reads once into the thread's buffer and gives the bytes to `take` (empty: end of stream).
pub(crate) fn poll_read_scratch<R>(
    io: &mut (impl AsyncRead + Unpin + ?Sized),
    cx: &mut Context<'_>,
    limit: usize,
    take: impl FnOnce(&[u8]) -> R,
) -> Poll<io::Result<R>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let limit = limit.min(scratch.len());
        let mut buf = ReadBuf::new(&mut scratch[..limit]);
        ready!(Pin::new(io).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(take(buf.filled())))
    })
}

/// A timer that is cheap to move: setting a later deadline costs nothing until the old one passes.
#[derive(Debug, Default)]
pub(crate) struct LazyTimer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl LazyTimer {
    /// `Ready` once `deadline` has passed; otherwise the task is woken then (or a little earlier, to
    /// look again).
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// Now, on tokio's clock, so that tests can use virtual time. Inside of [`timed`], the time at which the
/// poll began.
pub(crate) fn now() -> Instant {
    POLLED_AT.get().unwrap_or_else(read_clock)
}

fn read_clock() -> Instant {
    tokio::time::Instant::now().into_std()
}

thread_local! {
    /// When the poll that runs on this thread began, while [`timed`] polls.
    static POLLED_AT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs a future that reads the clock once a poll. An exchange asks a dozen times what time it is, and in
/// a virtual machine each answer costs as much as copying a message does; within one poll, which takes
/// microseconds, it is the same.
///
/// The future comes boxed: pinned in here it would take its room twice, for every open connection.
pub(crate) async fn timed<T>(mut future: BoxFuture<T>) -> T {
    poll_fn(|cx| {
        let _polling = Polling(POLLED_AT.replace(Some(read_clock())));
        future.as_mut().poll(cx)
    })
    .await
}

/// Until it is dropped, by a panic too, the time stands still.
struct Polling(Option<Instant>);

impl Drop for Polling {
    fn drop(&mut self) {
        POLLED_AT.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_unwatched_connection_is_read_by_the_clock() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) = tokio::join!(
            TcpStream::connect(listener.local_addr().unwrap()),
            listener.accept()
        );
        let mut io: Box<dyn Io> = Box::new(client.unwrap());
        assert!(unwatch(&mut io));
        let mut peer = accepted.unwrap().0.into_std().unwrap();
        peer.set_nonblocking(false).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut read = || poll_read_scratch(&mut io, &mut cx, READ_SIZE, <[u8]>::to_vec);
        assert!(read().is_pending());
        peer.write_all(b"event").unwrap();
        // What was written to loopback is there, but nobody is woken: looking again finds it.
        let mut next = || loop {
            if let Poll::Ready(bytes) = read() {
                return bytes.unwrap();
            }
            std::thread::yield_now();
        };
        assert_eq!(next(), b"event");
        drop(peer);
        assert_eq!(next(), b"");
    }

    #[tokio::test(start_paused = true)]
    async fn time_stands_still_within_a_poll_only() {
        timed(Box::pin(async {
            let before = now();
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(now() - before, Duration::from_secs(1));
            assert_eq!(POLLED_AT.get(), Some(now()));
        }))
        .await;
        assert_eq!(POLLED_AT.get(), None);
    }
}
