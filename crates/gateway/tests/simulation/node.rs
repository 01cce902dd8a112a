//! A gateway as one node of the world.

use std::sync::Mutex;
use std::time::Duration;

use http::Uri;
use thinpipe_gateway::{
    Gateway, GatewayConfig, GroupConfig, HealthConfig, HttpUpstream, RateLimits, Reached,
    ReplicaConfig, Resume, Sharing, SsePaths, UpstreamSpec,
};
use thinpipe_proto::access::AccessPolicy;
use thinpipe_proto::balance::BreakerConfig;
use thinpipe_proto::deprecation::DeprecationConfig;
use thinpipe_proto::revision::Binding;
use thinpipe_testkit::network::{Host, Network, Rng};
use thinpipe_transport::body::BoxFuture;
use thinpipe_transport::server::{
    AccessToken, Limits, Server, ServerConfig, ServerStats, SessionLimits, SseConfig,
};
use thinpipe_transport::upstream::{Connector, UpstreamConfig};
use thinpipe_transport::{Io, Random};

use crate::ledger::Ledger;
use crate::store::{Gate, Store, Way};
use crate::world::SERVERS;

/// Sessions that nobody uses end after this.
pub(crate) const IDLE: Duration = Duration::from_secs(40);

/// How often that is looked at.
pub(crate) const SWEEP: Duration = Duration::from_secs(5);

/// How long a replica whose requests fail gets none.
const BREAK: Duration = Duration::from_secs(1);

/// One life of a gateway.
pub(crate) struct Node {
    pub(crate) name: String,
    network: Network,
    gate: Gate,
    server: Server,
    gateway: Gateway,
}

impl Node {
    /// Starts a gateway as this node.
    pub(crate) fn start(network: &Network, name: &str, store: &Store, mut rng: Rng) -> Self {
        let host = network.start(name);
        let random = random(rng.fork());
        let gate = Gate::new(rng);
        let builder = Server::builder(server_config()).random(random.clone());
        let mut logged = spec(&host, "logged", "server", Binding::Sessions);
        logged.resume = Resume::Log;
        let mut pooled = spec(&host, "pooled", "server", Binding::Sessions);
        pooled.bridge.sessions = Some(Sharing::Pooled);
        let mut shared = spec(&host, "shared", "server", Binding::Sessions);
        shared.bridge.sessions = Some(Sharing::Shared);
        let mut passed = spec(&host, "mcp", "server", Binding::Sessions);
        passed.sse = Some(SsePaths {
            stream: "/sse".to_owned(),
            messages: "/messages".to_owned(),
            config: SseConfig {
                heartbeat: Duration::from_secs(2).try_into().expect("a heartbeat"),
                ..SseConfig::default()
            },
        });
        let config = GatewayConfig {
            upstreams: vec![
                passed,
                spec(&host, "stateless", "stateless", Binding::Stateless),
                logged,
                pooled,
                shared,
                grouped(&host),
            ],
            deprecation: DeprecationConfig::default(),
            state_keys: Vec::new(),
            rates: RateLimits::default(),
            random,
        };
        let gateway = Gateway::new(config, builder.buffered()).expect("a gateway");
        let builder = builder.stores(store.behind(&gate, true));
        let server = gateway.mount(builder).build();
        gateway.start(&server);
        accept(&server, &host);
        Self {
            name: name.to_owned(),
            network: network.clone(),
            gate,
            server,
            gateway,
        }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn stats(&self) -> ServerStats {
        self.server.stats()
    }

    /// Ends it in the middle of everything. What is left of it reaches nobody any more, and is given to whoever
    /// waits for its end.
    pub(crate) fn kill(self) -> impl Future<Output = ()> + Send + 'static {
        self.network.kill(&self.name);
        self.gate.set(Way::Dead);
        async move {
            self.server.shut_down().await;
            self.gateway.finish().await;
        }
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn stop(self) {
        self.server.shut_down().await;
        self.gateway.finish().await;
        // What a process has said before its end still arrives.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.network.kill(&self.name);
    }
}

fn accept(server: &Server, host: &Host) {
    let (accepting, host) = (server.clone(), host.clone());
    server.spawn(async move {
        let listener = host.listen();
        let acceptor = accepting.acceptor();
        loop {
            tokio::select! {
                biased;
                // Cancel-safe: nothing is taken from the token.
                () = acceptor.closing() => return,
                // Cancel-safe: a connection that was not returned waits on.
                accepted = listener.accept() => match accepted {
                    Some((socket, _)) => accepting.spawn(accepting.serve_io(socket, None)),
                    None => return,
                },
            }
        }
    });
}

fn server_config() -> ServerConfig {
    let token = |name: &str| AccessToken {
        principal: name.to_owned(),
        token: name.to_owned(),
    };
    ServerConfig {
        limits: Limits {
            keep_alive: Duration::from_secs(2),
            write_stall: Duration::from_secs(10),
            ..Limits::default()
        },
        sessions: SessionLimits {
            idle: IDLE,
            sweep: SWEEP,
            ..SessionLimits::default()
        },
        access: AccessPolicy {
            loopback: true,
            ..AccessPolicy::default()
        },
        tokens: vec![token("alice"), token("bob")],
        ..ServerConfig::default()
    }
}

/// What a gateway draws comes from the seed, too.
fn random(rng: Rng) -> Random {
    let rng = Mutex::new(rng);
    Random::from_source(move |bytes| {
        let mut rng = rng.lock().unwrap();
        for bytes in bytes.chunks_mut(8) {
            bytes.copy_from_slice(&rng.next_u64().to_le_bytes()[..bytes.len()]);
        }
        Ok(())
    })
}

fn url(node: &str) -> Uri {
    format!("http://{node}/mcp").parse().expect("a URL")
}

/// Two replicas of a server with sessions.
fn grouped(host: &Host) -> UpstreamSpec {
    let mut spec = spec(host, "grouped", SERVERS[0], Binding::Sessions);
    if let Reached::Http(http) = &mut spec.reached {
        let replicas = SERVERS.map(|name| ReplicaConfig::new(name, url(name)));
        let mut group = GroupConfig::new(replicas.into());
        // A session stays with its replica, so that nothing of it works while that one's breaker is open: this long,
        // which is shorter than clients have to recover.
        group.balance.breaker = Some(BreakerConfig {
            open: BREAK,
            max_open: 2 * BREAK,
            ..BreakerConfig::default()
        });
        http.group = Some(Box::new(group));
    }
    spec
}

/// A server of this name, served at the path of the same name, which is this node.
fn spec(host: &Host, name: &str, node: &str, speaks: Binding) -> UpstreamSpec {
    let url = url(node);
    let host = host.clone();
    let connect = move |to: &Uri| -> BoxFuture<std::io::Result<Box<dyn Io>>> {
        let (host, to) = (host.clone(), to.host().unwrap_or_default().to_owned());
        Box::pin(async move { Ok(Box::new(host.connect(&to).await?) as Box<dyn Io>) })
    };
    let client = UpstreamConfig {
        connect_timeout: Duration::from_secs(2),
        first_byte_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(20),
        stream_idle_timeout: Duration::from_secs(12),
        connector: Some(Connector::new(connect)),
        ..UpstreamConfig::new(name.into(), url)
    };
    let mut spec = UpstreamSpec::new(
        format!("/{name}"),
        Reached::Http(HttpUpstream {
            pin: Some(speaks),
            ..HttpUpstream::new(client)
        }),
    );
    spec.health = HealthConfig {
        interval: Duration::ZERO,
        ..HealthConfig::default()
    };
    spec
}

/// What a gateway holds when nobody uses it: nothing.
pub(crate) fn residue(stats: &ServerStats) -> Option<String> {
    let left = [
        ("connections", stats.connections_open),
        ("requests", stats.requests_open),
        ("streams", stats.streams_open),
        ("buffered bytes", stats.buffered_bytes),
        ("sessions", stats.sessions),
    ];
    let left: Vec<_> = left.iter().filter(|(_, count)| *count > 0).collect();
    (!left.is_empty()).then(|| format!("{left:?}"))
}

/// For the ledger's words about a node.
pub(crate) fn judge(node: &Node, ledger: &Ledger) {
    if let Some(left) = residue(&node.stats()) {
        let sessions = node.server.sessions().list();
        ledger.violation(format!("{} still holds {left}: {sessions:?}", node.name));
    }
}
