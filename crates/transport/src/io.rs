//! What both sides need of a connection: any byte stream, one read buffer a thread, lazy timers.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// A connection: TCP, TLS or a pipe in a test.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Whether the peer is known to send nothing more, although what it did send has not been read.
    /// Never waits, and nobody is woken when it changes. `false` where only reading can tell.
    fn is_read_closed(&self) -> bool;
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {
    fn is_read_closed(&self) -> bool {
        let any: &dyn Any = self;
        if let Some(boxed) = any.downcast_ref::<Box<dyn Io>>() {
            return (**boxed).is_read_closed();
        }
        let Some(tcp) = any.downcast_ref::<TcpStream>() else {
            return false;
        };
        // With bytes to read it is ready at once, and says what else it has heard.
        let ready = pin!(tcp.ready(Interest::READABLE));
        let polled = ready.poll(&mut Context::from_waker(Waker::noop()));
        matches!(polled, Poll::Ready(Ok(ready)) if ready.is_read_closed())
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
) -> Poll<std::io::Result<R>> {
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

/// Now, on tokio's clock, so that tests can use virtual time.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
