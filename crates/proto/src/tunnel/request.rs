//! A request that is carried to another node, with all that was found out about who sent it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::HeaderMap;

use crate::session::{Principal, SessionId};

/// A request on its way to the node that answers it.
#[derive(Clone, PartialEq, Eq)]
pub struct TunnelRequest {
    /// What is asked.
    pub target: Target,
    /// Name of the endpoint it came to.
    pub endpoint: String,
    /// Path it came to; empty if there was none.
    pub path: Bytes,
    /// Who sent it.
    pub principal: Principal,
    /// Its header fields, as they came.
    pub headers: HeaderMap,
    /// Address of the peer, if it has one.
    pub peer: Option<SocketAddr>,
    /// Addresses that it came over before the peer, the client's first.
    pub forwarded_for: Vec<IpAddr>,
    /// Its body: a message, or an array of them; empty where there is none.
    pub body: Bytes,
}

/// What a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// POST of Streamable HTTP, with or without a session.
    Post,
    /// GET of Streamable HTTP.
    Listen,
    /// DELETE of Streamable HTTP.
    Terminate,
    /// POST to the stream of a session of HTTP+SSE.
    Stream(SessionId),
}

/// Without headers and body: clients put secrets there, and logs are not.
impl fmt::Debug for TunnelRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelRequest")
            .field("target", &self.target)
            .field("endpoint", &self.endpoint)
            .field("principal", &self.principal)
            .field("body", &self.body.len())
            .finish_non_exhaustive()
    }
}
