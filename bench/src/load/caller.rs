//! A client that makes one call after another, over either transport.

use std::net::SocketAddr;

use anyhow::Result;

use super::client::Client;
use super::http_sse::SseClient;
use crate::message::Call;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Transport {
    Streamable,
    HttpSse,
}

pub(crate) enum Caller {
    Streamable(Client),
    HttpSse(SseClient),
}

impl Caller {
    /// Connects and greets. `stateless` means Streamable HTTP only.
    pub(crate) async fn open(
        address: SocketAddr,
        transport: Transport,
        stateless: bool,
    ) -> Result<Self> {
        Ok(match transport {
            Transport::Streamable => Self::Streamable(Client::open(address, stateless).await?),
            Transport::HttpSse => Self::HttpSse(SseClient::open(address).await?),
        })
    }

    /// One call, until its answer is here and has been checked.
    pub(crate) async fn call(&mut self, call: &Call) -> Result<()> {
        match self {
            Self::Streamable(client) => client.json(call).await,
            Self::HttpSse(client) => client.call(call).await,
        }
    }

    /// Opens the stream for what the server says, unless it is open already.
    pub(crate) async fn listen(&mut self) -> Result<()> {
        match self {
            Self::Streamable(client) => client.listen().await,
            Self::HttpSse(_) => Ok(()),
        }
    }

    /// Reads and drops what comes on that stream until the peer closes it.
    pub(crate) async fn drain(&mut self) -> Result<()> {
        match self {
            Self::Streamable(client) => client.drain().await,
            Self::HttpSse(client) => client.drain().await,
        }
    }
}
