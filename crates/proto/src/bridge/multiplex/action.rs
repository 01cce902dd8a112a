//! What the machine wants done.

use bytes::Bytes;

use crate::bridge::action::CallId;

/// What the shell has to do next.
#[derive(Debug, Clone)]
pub enum Action {
    /// Start the program, as there is something to write and none runs. Then say
    /// [`Multiplexing::started`](super::Multiplexing::started) or
    /// [`Multiplexing::start_failed`](super::Multiplexing::start_failed).
    Start,
    /// Give a message to a call.
    Deliver {
        /// The call.
        call: CallId,
        /// The message, with the ids and tokens of the call.
        message: Bytes,
        /// What it is.
        nature: Nature,
    },
    /// A call is over without a response.
    Fail {
        /// The call.
        call: CallId,
        /// Why.
        fault: Fault,
        /// The program certainly did not get it.
        undelivered: bool,
    },
}

/// What a delivered message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// The response: the last message of its call.
    Response,
    /// "Read again" on a listen: equal ones that wait may be merged.
    ChangeNotice,
    /// Any other notification.
    Notification,
}

/// Why a call has no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The program ended, for this reason.
    Lost(String),
    /// The program did not answer in time.
    TimedOut,
    /// No program could be started; the shell knows why.
    NotStarted,
}

/// A message for the program.
#[derive(Debug, Clone)]
pub struct Write {
    /// The message. White space in it is the client's, line ends included: make it one line first.
    pub message: Bytes,
    /// The call that it is, if it is one.
    pub call: Option<CallId>,
}
