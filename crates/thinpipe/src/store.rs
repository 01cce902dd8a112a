//! Where a run keeps its sessions, and how that fares.

use std::sync::Arc;

use thinpipe_gateway::EventLogLimits;
use thinpipe_store::{Inbox as _, LogLimits, MemoryStore, RedisConfig, RedisStore, StoreError};
use thinpipe_transport::server::{SharedStores, Stores};

use crate::causes::with_causes;
use crate::config::{Config, StoreConfig};

mod observed;

pub(crate) use observed::Observations;

use observed::Observed;

/// The store of a run.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    kept: Kept,
    place: Arc<str>,
}

#[derive(Debug, Clone)]
enum Kept {
    Here,
    InRedis(Arc<Observed<RedisStore>>),
}

impl Store {
    /// The store that a configuration names. Nothing is connected yet.
    pub(crate) fn of(config: &Config) -> Self {
        let place = config.store.to_string().into();
        let kept = match &config.store {
            StoreConfig::Memory => Kept::Here,
            StoreConfig::Redis(redis) => {
                let upstream = config.gateway.upstreams.first();
                let limits = upstream.map(|spec| spec.event_log).unwrap_or_default();
                let store = RedisStore::new(RedisConfig::clone(redis), of_log(limits));
                Kept::InRedis(Arc::new(Observed::new(store)))
            }
        };
        Self { kept, place }
    }

    /// For a server.
    pub(crate) fn stores(&self) -> Stores {
        match &self.kept {
            Kept::Here => Stores {
                sessions: Arc::new(MemoryStore::new()),
                shared: None,
            },
            Kept::InRedis(store) => Stores {
                sessions: Arc::clone(store) as _,
                shared: Some(SharedStores {
                    log: Arc::clone(store) as _,
                    inbox: Arc::clone(store) as _,
                }),
            },
        }
    }

    /// Where it is, without credentials.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// How it fares; `None`: it is in this process, and cannot fail.
    pub(crate) fn observations(&self) -> Option<&Observations> {
        match &self.kept {
            Kept::Here => None,
            Kept::InRedis(store) => Some(store.observations()),
        }
    }

    /// Tries whether it can be reached.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) async fn reach(&self) -> Result<(), StoreError> {
        match &self.kept {
            Kept::Here => Ok(()),
            Kept::InRedis(store) => store.nodes().await.map(|_| ()),
        }
    }

    /// Why it could not be reached, for people.
    pub(crate) fn why(&self, error: &StoreError) -> String {
        let why = with_causes(error);
        // A server without TLS waits for the rest of what it does not understand.
        let is_silent = self.place.starts_with("rediss") && why.contains("did not answer");
        let hint = match is_silent {
            true => "; does it speak TLS? If not, its URL begins with redis",
            false if why.contains("refuses the user or the password") => {
                "; they are in the URL (`store`, `store.url`, `THINPIPE_STORE`), or are `store.user` and \
                 `store.password` or `store.password_file`"
            }
            false if why.contains("Connection refused") => "; is Redis started there?",
            false if why.contains("DB index is out of range") => {
                "; the number of its database stands behind the last `/` of the URL, and Redis has those from 0 to \
                 15, unless its `databases` says otherwise"
            }
            false => "",
        };
        format!("{why}{hint}")
    }

    /// What is wrong with how it is set up, for people, as far as its user may ask. Call it once it is reached.
    pub(crate) async fn complaint(&self) -> Option<String> {
        let Kept::InRedis(store) = &self.kept else {
            return None;
        };
        let policy = store.inner().eviction_policy().await.ok()??;
        Some(format!(
            "the store {} drops live sessions when its memory is full: its maxmemory-policy is {policy}; \
             set it to noeviction",
            self.place
        ))
    }
}

fn of_log(limits: EventLogLimits) -> LogLimits {
    let EventLogLimits {
        max_events,
        max_bytes,
        age,
        finished_for,
        session_bytes,
    } = limits;
    LogLimits {
        max_events,
        max_bytes,
        session_bytes,
        age,
        finished_for,
    }
}
