//! An upstream, a store if the target has one, and gateways between them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};

use super::answers;
use crate::load::client::counts;
use crate::run::target::{Process, Target, Tools};
use crate::upstream::{Counts, Listening};

pub(super) struct Cluster<'a> {
    tools: &'a Tools,
    target: Target,
    pub(super) upstream: Process,
    store: Option<Process>,
    pub(super) nodes: Vec<Process>,
}

impl<'a> Cluster<'a> {
    /// Starts all of it, and waits until every node takes sessions.
    pub(super) async fn start(tools: &'a Tools, target: Target, nodes: usize) -> Result<Self> {
        let mut cluster = Self {
            tools,
            target,
            upstream: tools.upstream(Listening::Idle)?,
            store: target.has_store().then(|| tools.store()).transpose()?,
            nodes: Vec::new(),
        };
        for _ in 0..nodes {
            let node = cluster.node().await?;
            cluster.nodes.push(node);
        }
        Ok(cluster)
    }

    /// One more node that takes sessions.
    pub(super) async fn node(&self) -> Result<Process> {
        let (upstream, store) = (Some(&self.upstream), self.store.as_ref());
        let mut node = self.tools.start_with(self.target, upstream, store)?;
        node.accepts()?;
        answers(&mut node).await?;
        Ok(node)
    }

    pub(super) fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node].address
    }

    /// What the upstream counted.
    pub(super) async fn counts(&self) -> Result<Counts> {
        counts(self.upstream.address).await
    }

    /// Bytes that the store has allocated; 0 without one.
    pub(super) fn store_bytes(&self) -> Result<u64> {
        let Some(store) = &self.store else {
            return Ok(0);
        };
        let text = info(store.address)?;
        let bytes = text
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        Ok(bytes.context("no used_memory")?.trim().parse()?)
    }

    /// Fails if any of the processes has ended.
    pub(super) fn alive(&mut self) -> Result<()> {
        let shared = [&mut self.upstream].into_iter().chain(&mut self.store);
        shared.chain(&mut self.nodes).try_for_each(Process::alive)
    }
}

/// What Redis says of its memory.
fn info(store: SocketAddr) -> Result<String> {
    let mut socket = TcpStream::connect(store)?;
    socket.write_all(b"INFO memory\r\n")?;
    let mut reader = BufReader::new(socket);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let length = line.trim().strip_prefix('$').context("no bulk string")?;
    let length: u64 = length.parse()?;
    ensure!(length <= MAX_INFO, "Redis says too much of itself");
    let mut text = String::new();
    reader.take(length).read_to_string(&mut text)?;
    Ok(text)
}

const MAX_INFO: u64 = 64 * 1024;
