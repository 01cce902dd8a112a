//! Several replicas of one server.

use std::sync::Arc;

use http::Uri;
use thinpipe_proto::balance;

/// Replicas of one server, and how requests are shared out among them.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// The replicas. None: the one server at the upstream's own URL. At most
    /// [`MAX_REPLICAS`](balance::MAX_REPLICAS).
    pub replicas: Vec<ReplicaConfig>,
    /// How one is chosen, and when one is left out.
    pub balance: balance::Config,
    /// How many requests that only read may be sent to another replica after one has failed them.
    pub retry: balance::RetryConfig,
    /// The replicas know each other's sessions, so that each of them serves any. Default: false, a session
    /// stays where it was opened.
    pub shared_sessions: bool,
}

/// One replica.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// Its name among the replicas of its server. Sessions are kept under it, so that it should stay the same
    /// over restarts.
    pub name: Arc<str>,
    /// URL of its MCP endpoint.
    pub url: Uri,
    /// Its share beside those of the others, 1 to [`MAX_WEIGHT`](balance::MAX_WEIGHT). Default: 1.
    pub weight: u32,
}

impl GroupConfig {
    /// The defaults for these replicas.
    #[must_use]
    pub fn new(replicas: Vec<ReplicaConfig>) -> Self {
        Self {
            replicas,
            balance: balance::Config::default(),
            retry: balance::RetryConfig::default(),
            shared_sessions: false,
        }
    }
}

impl ReplicaConfig {
    /// A replica that gets as much as the others.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, url: Uri) -> Self {
        Self {
            name: name.into(),
            url,
            weight: 1,
        }
    }
}
