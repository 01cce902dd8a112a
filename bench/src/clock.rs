//! Time that two processes agree on, and a clock that is finer than the runtime's.

use std::num::NonZero;
use std::time::Duration;

use rustix::thread::set_current_timer_slack;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc::Sender;

/// Nanoseconds of the machine's monotonic clock, the same in every process.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Sends to each queue in turn the nanosecond at which something is due, as soon as that has come,
/// `rate` times a second over all queues. Ends when a queue is closed or `stop` says so; a queue
/// that is full ends it too.
///
/// It blocks, and so wants a thread of its own: the runtime's timers round up to the next
/// millisecond, which would be the greater part of what an open loop measures.
pub(crate) fn pace(queues: &[Sender<u64>], rate: f64, stop: impl Fn() -> bool) {
    // Without this a sleeper may be woken 50 us late; if it is refused, it is just that.
    let _ = set_current_timer_slack(NonZero::new(1));
    let first = now();
    for (number, queue) in queues.iter().cycle().enumerate() {
        let due = first + (number as f64 * 1e9 / rate) as u64;
        std::thread::sleep(Duration::from_nanos(due.saturating_sub(now())));
        if stop() || queue.try_send(due).is_err() {
            return;
        }
    }
}
