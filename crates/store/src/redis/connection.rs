//! A connection to whatever kind of Redis there is, made when it is needed and made anew when it is lost. Every
//! use of the crate's clients is in this file.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::SingleNodeRoutingInfo;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue,
    IntoConnectionInfo, Pipeline, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo,
    RedisError, RedisFuture, RedisResult, TlsCertificates, TlsMode, Value,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

use super::config::{RedisConfig, RedisCredentials, RedisKind};
use super::failure::is_asked_elsewhere;

/// One connection that many calls share, or none yet.
pub(super) struct Line {
    config: Arc<RedisConfig>,
    attempt: Mutex<Option<Attempt>>,
}

/// A connection that comes about, has come about, or has failed to. Whoever needs it drives it; when all of them
/// have left, the next one goes on with it.
#[derive(Clone)]
pub(super) struct Attempt {
    outcome: Shared<BoxFuture<'static, RedisResult<Connection>>>,
    /// The server has closed the connection.
    is_closed: Arc<AtomicBool>,
}

#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    Single(MultiplexedConnection),
    /// To the nodes of a cluster; it connects to each by itself, and again.
    Cluster(ClusterConnection),
}

impl Line {
    pub(super) fn new(config: Arc<RedisConfig>) -> Self {
        Self {
            config,
            attempt: Mutex::new(None),
        }
    }

    /// The connection that there is, or a new one.
    pub(super) async fn connection(&self) -> (RedisResult<Connection>, Attempt) {
        let attempt = {
            let mut attempt = self.attempt();
            let usable = attempt.take().filter(Attempt::is_usable);
            let chosen = usable.unwrap_or_else(|| Attempt::new(&self.config));
            attempt.insert(chosen).clone()
        };
        let outcome = attempt.outcome.clone().await;
        if outcome.is_err() {
            self.give_up(&attempt);
        }
        (outcome, attempt)
    }

    /// Lets nobody else use this connection; who uses it may go on.
    pub(super) fn give_up(&self, attempt: &Attempt) {
        let mut current = self.attempt();
        if current
            .as_ref()
            .is_some_and(|it| it.outcome.ptr_eq(&attempt.outcome))
        {
            *current = None;
        }
    }

    /// A poisoned lock means a panic elsewhere; either value is a valid one.
    fn attempt(&self) -> MutexGuard<'_, Option<Attempt>> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    fn new(config: &Arc<RedisConfig>) -> Self {
        let is_closed = Arc::new(AtomicBool::new(false));
        let connecting = connect(Arc::clone(config), Arc::clone(&is_closed));
        let outcome = within(config.connect_timeout, connecting).boxed().shared();
        Self { outcome, is_closed }
    }

    fn is_usable(&self) -> bool {
        !self.is_closed.load(Ordering::Relaxed)
    }
}

impl Connection {
    /// Makes a call. Of a slot that is on its way to another node, a cluster names that node to whoever asks for what is
    /// not there any more; it is asked then. The crate would do that with tries of its own, and makes none here.
    pub(super) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        match (command.query_async(self).await, self) {
            (Err(error), Self::Cluster(cluster)) if is_asked_elsewhere(&error) => {
                ask_named(cluster, command, error).await
            }
            (result, _) => result,
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(commands, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// Asks the node that another one has named for this once. That it was named, it is told on the same connection, right
/// before. One that has no slot at all yet, the crate does not know: then the answer stays that it is to be asked.
async fn ask_named<T: FromRedisValue>(
    cluster: &mut ClusterConnection,
    command: &Cmd,
    named: RedisError,
) -> RedisResult<T> {
    let node = named
        .redirect_node()
        .and_then(|(node, _)| node.rsplit_once(':'));
    let Some((host, Ok(port))) = node.map(|(host, port)| (host.to_owned(), port.parse())) else {
        return Err(named);
    };
    let mut calls = redis::pipe();
    calls.cmd("ASKING").add_command(command.clone());
    let route = SingleNodeRoutingInfo::ByAddress { host, port };
    match cluster.route_pipeline(calls, 1, 1, route).await {
        Ok(answers) => {
            let answer = answers.into_iter().next().unwrap_or(Value::Nil);
            Ok(redis::from_redis_value(answer.extract_error()?)?)
        }
        Err(error) if error.kind() == ErrorKind::ClusterConnectionNotFound => Err(named),
        Err(error) => Err(error),
    }
}

async fn within(
    time: Duration,
    connecting: impl Future<Output = RedisResult<Connection>>,
) -> RedisResult<Connection> {
    match tokio::time::timeout(time, connecting).await {
        Ok(outcome) => outcome,
        Err(elapsed) => Err(RedisError::from(std::io::Error::from(elapsed))),
    }
}

async fn connect(config: Arc<RedisConfig>, is_closed: Arc<AtomicBool>) -> RedisResult<Connection> {
    if config.tls {
        choose_cryptography();
    }
    if config.kind == RedisKind::Cluster {
        return connect_to_cluster(&config).await;
    }
    // Calls have their own deadlines, and the one that waits for messages waits long.
    let options = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.connect_timeout))
        .set_response_timeout(None)
        .set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                is_closed.store(true, Ordering::Relaxed);
            }
            Ok::<(), std::convert::Infallible>(())
        });
    let connection = match &config.kind {
        RedisKind::Sentinel { master } => {
            let mut sentinels = sentinels(&config, master)?.build()?;
            sentinels.get_async_connection_with_config(&options).await?
        }
        RedisKind::Single | RedisKind::Cluster => {
            let info = connection_info(&config, &config.addresses[0])?;
            let client = match certificates(&config) {
                Some(certificates) => Client::build_with_tls(info, certificates)?,
                None => Client::open(info)?,
            };
            client
                .get_multiplexed_async_connection_with_config(&options)
                .await?
        }
    };
    Ok(Connection::Single(connection))
}

async fn connect_to_cluster(config: &RedisConfig) -> RedisResult<Connection> {
    let infos = config
        .addresses
        .iter()
        .map(|address| connection_info(config, address));
    let infos = infos.collect::<RedisResult<Vec<_>>>()?;
    // While the client connects to one server, or asks it where slots are, it sends nothing to the others: one that
    // stands still may not keep calls of those waiting for as long as they may take. Tries of its own would be of
    // commands, too, that may not be done twice.
    let connecting = config.operation_timeout / CLUSTER_CONNECTS_WITHIN;
    let mut builder = ClusterClient::builder(infos)
        .connection_timeout(connecting.min(config.connect_timeout))
        .tcp_settings(tcp_settings(config))
        .retries(0);
    if let Some(certificates) = certificates(config) {
        builder = builder.certs(certificates);
    }
    let connection = builder.build()?.get_async_connection().await?;
    Ok(Connection::Cluster(connection))
}

fn sentinels(config: &RedisConfig, master: &str) -> RedisResult<SentinelClientBuilder> {
    let addresses = config
        .addresses
        .iter()
        .map(|address| connection_address(config, address));
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
        .set_client_to_redis_db(config.database)
        .set_client_to_redis_tcp_settings(tcp_settings(config))
        .set_client_to_sentinel_tcp_settings(tcp_settings(config))
        .set_client_to_redis_protocol(ProtocolVersion::RESP3);
    if config.tls {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    if let Some(trusted) = certificates(config) {
        builder = builder
            .set_client_to_redis_certificates(trusted.clone())
            .set_client_to_sentinel_certificates(trusted);
    }
    if let Some(RedisCredentials { user, password }) = &config.credentials {
        builder = builder.set_client_to_redis_password(password);
        if let Some(user) = user {
            builder = builder.set_client_to_redis_username(user);
        }
    }
    if let Some(RedisCredentials { user, password }) = &config.sentinel_credentials {
        builder = builder.set_client_to_sentinel_password(password);
        if let Some(user) = user {
            builder = builder.set_client_to_sentinel_username(user);
        }
    }
    Ok(builder)
}

fn connection_info(config: &RedisConfig, address: &(String, u16)) -> RedisResult<ConnectionInfo> {
    let mut settings = RedisConnectionInfo::default()
        .set_db(config.database)
        .set_protocol(ProtocolVersion::RESP3);
    if let Some(RedisCredentials { user, password }) = &config.credentials {
        settings = settings.set_password(password);
        if let Some(user) = user {
            settings = settings.set_username(user);
        }
    }
    let info = connection_address(config, address).into_connection_info()?;
    Ok(info
        .set_redis_settings(settings)
        .set_tcp_settings(tcp_settings(config)))
}

fn tcp_settings(config: &RedisConfig) -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    // A server that went away without a word is noticed by what it does not acknowledge.
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(config.connect_timeout);
    settings
}

fn connection_address(config: &RedisConfig, (host, port): &(String, u16)) -> ConnectionAddr {
    if !config.tls {
        return ConnectionAddr::Tcp(host.clone(), *port);
    }
    ConnectionAddr::TcpTls {
        host: host.clone(),
        port: *port,
        insecure: false,
        tls_params: None,
    }
}

fn certificates(config: &RedisConfig) -> Option<TlsCertificates> {
    let roots = config.tls_roots.as_ref().filter(|_| config.tls)?;
    Some(TlsCertificates {
        client_tls: None,
        root_cert: Some(roots.to_vec()),
    })
}

/// The Redis client takes what the process has chosen to compute with, and panics where nothing is chosen and
/// there are two to choose from.
fn choose_cryptography() {
    if CryptoProvider::get_default().is_none() {
        // An error says that somebody else has chosen in the meantime, which is as well.
        drop(ring::default_provider().install_default());
    }
}

/// Connecting to one server of a cluster may take this part of the time that a call has.
const CLUSTER_CONNECTS_WITHIN: u32 = 3;
