//! What the machine wants done.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::bridge::action::{CallId, Delivery, End, MemberId};
use crate::rpc::RequestId;

/// What the shell has to do next.
#[derive(Debug, Clone)]
pub enum Action {
    /// Open a call to the server. What comes back on its stream is given to
    /// [`Upgrading::upstream`](super::Upgrading::upstream), its end without a response to
    /// [`Upgrading::call_failed`](super::Upgrading::call_failed).
    Call(Call),
    /// Close a call, which cancels it. Nothing that still comes on its stream matters.
    Cancel(CallId),
    /// Give a message to the client session.
    Deliver(Delivery),
    /// A request is over and gets no response, as it was cancelled: its stream ends (protocol notes
    /// 5.1, "Cancel"). Nothing related to it follows.
    Finish {
        /// The client session.
        member: MemberId,
        /// The client's own id.
        request: RequestId,
    },
    /// The server does not act as one of 2026-07-28: what it speaks is to be found out anew before the
    /// next session (protocol notes 5.1, "Written twice?").
    Doubt,
    /// The session is over: every open call is closed, the client session ends. The last action there is.
    Close(End),
}

/// A request to the server.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its id there.
    pub id: CallId,
    /// The request, complete.
    pub message: Bytes,
    /// The `Mcp-Param-*` headers that repeat its arguments (protocol notes 2.3.4). The other headers of
    /// MCP follow from the message.
    pub params: Vec<(HeaderName, HeaderValue)>,
    /// Whether it may be sent again below, if its connection is lost: twice does no harm, and nobody here sends it
    /// again. What a client asked for is never one: it is repeated here, once, where that may be.
    pub repeatable: bool,
    /// The client's request that it is made for.
    pub request: Option<RequestId>,
}
