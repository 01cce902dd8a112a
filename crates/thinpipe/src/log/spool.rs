//! Lines on their way to standard error, written by a thread of its own.
//!
//! Whoever reads the logs may be slow or may have stopped reading; a worker that waited for a full pipe
//! would stop its clients. What does not fit into the spool is dropped, and said to be.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait to be written.
const CAPACITY: usize = 1 << 20;
/// Lines are at most so old when they are written, so that many are written at once.
const DELAY: Duration = Duration::from_millis(50);
/// How long the end of the process waits for the last lines.
const FLUSH: Duration = Duration::from_secs(1);

/// The spool. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Something is there to be written.
    filled: Condvar,
    /// Everything has been written.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    dropped: u64,
    writing: bool,
    /// Somebody waits in [`Spool::flush`].
    hurries: bool,
}

impl Spool {
    /// A spool whose thread writes to `out`.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        // It ends with the process.
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || own.write_all_to(out))?;
        Ok(Self { shared })
    }

    /// Waits until everything is written, but not for long.
    pub(crate) fn flush(&self) {
        let mut state = self.shared.lock();
        state.hurries = true;
        self.shared.filled.notify_one();
        let busy = |state: &mut State| state.writing || !state.lines.is_empty();
        // Whether it was in time makes no difference any more.
        drop(self.shared.emptied.wait_timeout_while(state, FLUSH, busy));
    }

    /// Adds a line, or counts it as dropped. Never waits for whoever reads.
    pub(super) fn add(&self, line: &[u8]) {
        let mut state = self.shared.lock();
        if state.lines.len() + line.len() > CAPACITY {
            state.dropped += 1;
            return;
        }
        let was_empty = state.lines.is_empty();
        state.lines.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.shared.filled.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Bytes and counters are valid at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all_to(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        loop {
            let mut state = self.lock();
            state.writing = false;
            while state.lines.is_empty() {
                self.emptied.notify_all();
                state = self
                    .filled
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            // The first line of a batch woke us; the rest of it may come.
            let gathers = |state: &mut State| !state.hurries && state.lines.len() < CAPACITY / 2;
            state = match self.filled.wait_timeout_while(state, DELAY, gathers) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
            state.writing = true;
            state.hurries = false;
            std::mem::swap(&mut lines, &mut state.lines);
            let dropped = std::mem::take(&mut state.dropped);
            drop(state);
            if dropped > 0 {
                // Told where it happened: behind the lines that still fitted.
                lines.extend_from_slice(format!("{dropped} log lines were dropped\n").as_bytes());
            }
            // Nobody reads any more: that is no reason to stop.
            let _ = out.write_all(&lines).and_then(|()| out.flush());
            lines.clear();
        }
    }
}

impl Write for &Spool {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Spool {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A reader that reads only when it is told to.
    struct Slow {
        turn: mpsc::Receiver<()>,
        read: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.turn.recv();
            self.read.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Spool, mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (next, turn) = mpsc::channel();
        let read = Arc::<Mutex<Vec<u8>>>::default();
        let spool = Spool::start(Slow {
            turn,
            read: Arc::clone(&read),
        })
        .unwrap();
        (spool, next, read)
    }

    /// C26: logs that nobody reads hold nobody up, are bounded, and their loss is told.
    #[test]
    fn c26_a_reader_that_does_not_read_stops_nobody() {
        let (spool, next, read) = slow();
        let line = [b'x'; 1024];
        for _ in 0..3 * CAPACITY / line.len() {
            (&spool).write_all(&line).unwrap();
        }
        assert!(spool.shared.lock().lines.len() <= CAPACITY);
        drop(next);
        spool.flush();
        let read = String::from_utf8(read.lock().unwrap().clone()).unwrap();
        assert!(read.contains(" log lines were dropped\n"), "{}", read.len());
        assert!(read.len() <= 2 * CAPACITY + 100);
    }

    #[test]
    fn lines_are_written_in_order_and_the_end_waits_for_them() {
        let (spool, next, read) = slow();
        for number in 0..100 {
            writeln!(&spool, "{number}").unwrap();
        }
        drop(next);
        spool.flush();
        let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(
            String::from_utf8(read.lock().unwrap().clone()).unwrap(),
            expected
        );
    }
}
