//! The servers that are measured themselves: one on the library, a bare one of hyper, and one on stdio.

pub(crate) mod bare;
pub(crate) mod gauges;
pub(crate) mod library;
pub(crate) mod stdio;

use std::net::SocketAddr;

use anyhow::Result;
use tokio::net::{TcpListener, TcpSocket};

/// Listens with room for many clients that connect at once.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket.listen(BACKLOG)?)
}

const BACKLOG: u32 = 4096;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::task::JoinSet;

    use super::*;
    use crate::load::client::Client;
    use crate::load::http_sse::SseClient;
    use crate::message::Call;

    /// Starts both servers; they end when the set is dropped.
    async fn both() -> (JoinSet<()>, SocketAddr, SocketAddr) {
        let mut servers = JoinSet::new();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (bare, library) = (listen(any).unwrap(), listen(any).unwrap());
        let addresses = (bare.local_addr().unwrap(), library.local_addr().unwrap());
        servers.spawn(async move { bare::accept(bare).await.unwrap() });
        let server = library::build().unwrap();
        servers.spawn(async move { server.serve_on(library).await.unwrap() });
        (servers, addresses.0, addresses.1)
    }

    /// A27, J2: what is compared is the same work.
    #[tokio::test]
    async fn a27_the_floor_and_the_library_answer_the_same_bytes() {
        let (_servers, bare, library) = both().await;
        let mut answers = Vec::new();
        for address in [bare, library] {
            let mut client = Client::open(address, false).await.unwrap();
            client.json(&Call::SMALL).await.unwrap();
            answers.push(client.answer().to_vec());
        }
        assert_eq!(answers[0], answers[1]);
        assert!(answers[0].len() > 200);
    }

    /// J1: what is measured is HTTP+SSE, on a stream of its own.
    #[tokio::test]
    async fn j1_calls_over_http_sse_are_answered_on_the_stream() {
        let (_servers, _, library) = both().await;
        let mut client = SseClient::open(library).await.unwrap();
        for _ in 0..3 {
            client.call(&Call::SMALL).await.unwrap();
        }
    }
}
