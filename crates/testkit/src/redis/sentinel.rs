//! A server with a replica and a sentinel that watches them.

use std::fs;

use tokio::net::TcpStream;

use super::{PROGRAM, Redis, free_port, reply};
use crate::deadline::eventually;
use crate::process::Process;

/// A server, its replica, and a sentinel that promotes the replica when the server is gone. The sentinel calls them
/// `main`.
#[derive(Debug)]
pub struct RedisSentinel {
    /// The server that takes writes, at first.
    pub server: Redis,
    /// Its replica.
    pub replica: Redis,
    port: u16,
    _sentinel: Process,
}

impl RedisSentinel {
    /// Starts all three, and waits until they know each other.
    ///
    /// # Panics
    /// If that does not happen.
    pub async fn start() -> Self {
        let server = Redis::start().await;
        let origin = format!("127.0.0.1 {}", server.port);
        let replica =
            Redis::start_with(|_, _| vec![("--replicaof".into(), origin.clone().into())]).await;
        let port = free_port();
        let file = server.folder().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main {origin} 1\n\
             sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n",
            server.folder().display()
        );
        fs::write(&file, text).expect("the folder can be written to");
        let sentinel = Process::start(PROGRAM, [file.as_os_str(), "--sentinel".as_ref()]);
        sentinel.line_with("+monitor master main").await;
        let started = Self {
            server,
            replica,
            port,
            _sentinel: sentinel,
        };
        eventually("a sentinel that knows all", async || {
            started.is_complete().await
        })
        .await;
        started
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}/main", self.port)
    }

    async fn is_complete(&self) -> Result<(), String> {
        let connection = TcpStream::connect(("127.0.0.1", self.port)).await;
        let connection = connection.map_err(|error| error.to_string())?;
        let replicas = reply::ask(connection, &["SENTINEL", "REPLICAS", "main"]).await;
        let link = self.replica.command(&["INFO", "replication"]).await;
        let is_known = replicas.list().len() == 1;
        if is_known && link.text().contains("master_link_status:up") {
            Ok(())
        } else {
            Err(format!("{replicas:?}, {}", link.text()))
        }
    }
}
