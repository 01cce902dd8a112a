//! How an upstream session is used, and its bounds.

use std::time::Duration;

use crate::bridge::downgrade::Channel;

/// [`Limits::idle`] unless configured.
pub const DEFAULT_IDLE: Duration = Duration::from_secs(60);
/// [`Limits::stream_idle`] unless configured.
pub const DEFAULT_STREAM_IDLE: Duration = Duration::from_secs(5 * 60);
/// [`Limits::cap`] unless configured.
pub const DEFAULT_CAP: Duration = Duration::from_secs(10 * 60);
/// [`Limits::absolute_cap`] unless configured.
pub const DEFAULT_ABSOLUTE_CAP: Duration = Duration::from_secs(30 * 60);
/// [`Limits::answer`] unless configured.
pub const DEFAULT_ANSWER: Duration = Duration::from_secs(10 * 60);
/// [`Limits::in_flight`] unless configured.
pub const DEFAULT_IN_FLIGHT: usize = 1024;
/// [`Limits::server_requests`] unless configured.
pub const DEFAULT_SERVER_REQUESTS: usize = 64;
/// [`Limits::members`] unless configured.
pub const DEFAULT_MEMBERS: usize = 1024;
/// [`Limits::subscriptions`] unless configured.
pub const DEFAULT_SUBSCRIPTIONS: usize = 1024;

/// How long a cancellation of an unknown request is remembered: it may overtake its request on
/// another connection (protocol notes 5.1, "Cancel").
pub const EARLY_CANCEL_AGE: Duration = Duration::from_secs(2);
/// The most cancellations of unknown requests that are remembered for one client session.
pub const MAX_EARLY_CANCELS: usize = 32;
/// How long a cancelled request is taken to be running still, if the upstream does not answer it.
/// Most servers never do. Until then it counts as in flight.
pub const CANCELLED_AGE: Duration = Duration::from_secs(30);
/// The most tasks of one client session that are remembered where several use the upstream session; the oldest
/// is forgotten first.
pub const MAX_TASKS: usize = 256;
/// The longest id, progress token, task id or resource URI that is kept, in bytes of JSON text. It
/// bounds what one message makes the tables grow by.
pub const MAX_KEPT: usize = 4096;

/// The most that one principal with a name may have of a bound that is for all who share something: half of it,
/// so that there is something left for others.
#[must_use]
pub fn share(bound: usize) -> usize {
    bound.div_ceil(2)
}

/// Who uses the upstream session (protocol notes 5.2.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// One client session, for its whole life.
    #[default]
    PerClient,
    /// Several client sessions of one principal that declare the same capabilities. What cannot be tied to one
    /// of them is told to all or asked of nobody.
    Pooled,
    /// Several client sessions, of whichever principals; for servers that keep no client state. Where all
    /// messages come in one row the server cannot ask them anything, since it would not be known whom it means.
    Shared,
}

/// Bounds of one upstream session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long a request may stay without progress. 60 s by default.
    pub idle: Duration,
    /// How long a request may stay without a sign of life once an event stream of its own answers it: there all that
    /// comes counts, comments too. 5 min by default.
    pub stream_idle: Duration,
    /// How long a request may take, with progress. 10 min by default.
    pub cap: Duration,
    /// How long a request may take, the time included in which a server request of it is open at
    /// the client and the other two stand still. 30 min by default.
    pub absolute_cap: Duration,
    /// How long a client may take to answer a server request. 10 min by default.
    pub answer: Duration,
    /// The most client requests at a time, waiting and cancelled ones counted. 1024 by default.
    pub in_flight: usize,
    /// The most server requests open at a time. 64 by default.
    pub server_requests: usize,
    /// The most client sessions on a shared upstream session. 1024 by default.
    pub members: usize,
    /// The most resources that one client session may be subscribed to on a shared upstream session.
    /// 1024 by default.
    pub subscriptions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: DEFAULT_IDLE,
            stream_idle: DEFAULT_STREAM_IDLE,
            cap: DEFAULT_CAP,
            absolute_cap: DEFAULT_ABSOLUTE_CAP,
            answer: DEFAULT_ANSWER,
            in_flight: DEFAULT_IN_FLIGHT,
            server_requests: DEFAULT_SERVER_REQUESTS,
            members: DEFAULT_MEMBERS,
            subscriptions: DEFAULT_SUBSCRIPTIONS,
        }
    }
}

/// What a [`Reframing`](super::Reframing) is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The upstream's name, for `data.upstream` in errors of the gateway.
    pub upstream: String,
    /// Who uses the session.
    pub sharing: Sharing,
    /// How the upstream's messages come.
    pub channel: Channel,
    /// Ids of requests are greater than this: another process has used others on the same upstream session. 0,
    /// the default: none has. No more than 2^52, so that all ids are integers that JSON can hold.
    pub ids_after: u64,
    /// Its bounds.
    pub limits: Limits,
}

impl Config {
    /// Whether nobody can be asked for anything, since nobody could tell who is meant: all that the upstream
    /// says comes in one row, for whichever principals.
    pub(super) fn declares_nothing(&self) -> bool {
        self.sharing == Sharing::Shared && self.channel == Channel::Pipe
    }
}
