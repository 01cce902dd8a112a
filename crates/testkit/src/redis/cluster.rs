//! Three servers that are a cluster.

use super::{Redis, RedisReply, free_port};
use crate::deadline::eventually;

/// A cluster of three servers, each with a third of the slots and without replicas. What a dead one has is not
/// there; the others go on.
#[derive(Debug)]
pub struct RedisCluster {
    /// Its servers, to be killed, paused and started again.
    pub nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts it, and waits until all three know that it is complete.
    ///
    /// # Panics
    /// If that does not happen.
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        let mut bus_ports = Vec::new();
        for _ in 0..SIZE {
            // The default, 10,000 above the port, may not be one.
            let bus_port = free_port();
            nodes.push(Redis::start_with(|_, _| options(bus_port)).await);
            bus_ports.push(bus_port.to_string());
        }
        for (at, node) in nodes.iter().enumerate() {
            let (from, to) = (SLOTS * at / SIZE, SLOTS * (at + 1) / SIZE - 1);
            let (from, to, epoch) = (from.to_string(), to.to_string(), (at + 1).to_string());
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &from, &to])
                .await;
            let port = nodes[0].port.to_string();
            node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus_ports[0]])
                .await;
        }
        let cluster = Self { nodes };
        for node in &cluster.nodes {
            eventually("a whole cluster", async || is_whole(node).await).await;
        }
        cluster
    }

    /// Its URL, with all of its servers.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port));
        format!("redis+cluster://{}", hosts.collect::<Vec<_>>().join(","))
    }
}

async fn is_whole(node: &Redis) -> Result<(), String> {
    let info = node.command(&["CLUSTER", "INFO"]).await;
    let slots = node.command(&["CLUSTER", "SLOTS"]).await;
    let has_all = matches!(&slots, RedisReply::List(list) if list.len() == SIZE);
    let is_ok = info.text().contains("cluster_state:ok");
    if is_ok && has_all {
        Ok(())
    } else {
        Err(info.text().to_owned())
    }
}

fn options(bus_port: u16) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    let bus_port = bus_port.to_string();
    let options = [
        ("--cluster-enabled", "yes"),
        ("--cluster-port", &bus_port),
        ("--cluster-config-file", "nodes.conf"),
        ("--cluster-node-timeout", "1000"),
        ("--cluster-require-full-coverage", "no"),
    ];
    options
        .map(|(name, value)| (name.into(), value.into()))
        .into()
}

const SIZE: usize = 3;
const SLOTS: usize = 16_384;
