//! Several replicas of one server, and how requests are shared out among them.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Uri;
use serde::{Deserialize, Serialize};
use thinpipe_gateway::{GroupConfig, ReplicaConfig};
use thinpipe_proto::balance::{BreakerConfig, MAX_REPLICAS, Strategy};

use super::build::Build;
use super::effective::plain;
use super::problem::{Place, Problem};
use super::raw::RawUpstream;
use super::tables::{Number, Quantity, RawBreaker, RawRetry, SLOW_START, WEIGHT};
use super::tree::{Node, Path};
use super::upstreams::is_name;

/// One of `upstreams.replicas`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawReplica {
    /// Its name.
    pub(crate) name: Option<String>,
    /// URL of its MCP endpoint.
    pub(crate) url: Option<String>,
    /// Its share.
    pub(crate) weight: Option<Number>,
}

/// `balance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawBalance {
    RoundRobin,
    LeastConnections,
    PowerOfTwo,
    Random,
}

impl RawBalance {
    fn read(self) -> Strategy {
        match self {
            Self::RoundRobin => Strategy::RoundRobin,
            Self::LeastConnections => Strategy::LeastConnections,
            Self::PowerOfTwo => Strategy::PowerOfTwo,
            Self::Random => Strategy::Random,
        }
    }

    fn write(strategy: Strategy) -> Self {
        match strategy {
            Strategy::RoundRobin => Self::RoundRobin,
            Strategy::LeastConnections => Self::LeastConnections,
            Strategy::PowerOfTwo => Self::PowerOfTwo,
            Strategy::Random => Self::Random,
        }
    }
}

/// The replicas of a command line: the one at `url`, and those of `--replica`. `None`: there are none of these.
///
/// # Errors
/// One is not written as `NAME=URL[,weight=N]`.
pub(super) fn of_words(url: &str, further: &[String]) -> Result<Option<Vec<RawReplica>>, Problem> {
    if further.is_empty() {
        return Ok(None);
    }
    let first = RawReplica {
        url: Some(url.to_owned()),
        ..RawReplica::default()
    };
    let mut replicas = vec![first];
    for word in further {
        replicas.push(of_word(word).ok_or_else(|| {
            let message = format!("`{word}` is no replica");
            Problem::new(Place::Setting("--replica".to_owned()), message)
                .mend("write it as in `--replica b=http://10.0.0.2:3001/mcp,weight=2`")
        })?);
    }
    Ok(Some(replicas))
}

fn of_word(word: &str) -> Option<RawReplica> {
    let (place, weight) = match word.rsplit_once(",weight=") {
        Some((place, weight)) => (place, Some(weight.parse().ok()?)),
        None => (word, None),
    };
    let (name, url) = place.split_once('=')?;
    // A URL without a name may hold the sign, too.
    let is_name = !name.contains("://");
    is_name.then(|| RawReplica {
        name: Some(name.to_owned()),
        url: Some(url.to_owned()),
        weight,
    })
}

impl Build {
    /// The replicas of a server, or the breaker of an only one. `None`: there is neither.
    pub(super) fn group(
        &mut self,
        raw: &RawUpstream,
        path: &Path,
        listen: SocketAddr,
    ) -> Option<Box<GroupConfig>> {
        let replicas = match &raw.replicas {
            Some(replicas) => self.replicas(replicas, path, listen),
            None => {
                self.strangers(raw.keys_of_replicas(), path, "replicas");
                if raw.breaker.is_empty() {
                    return None;
                }
                Vec::new()
            }
        };
        let mut group = GroupConfig::new(replicas);
        let mut breaker = BreakerConfig::default();
        raw.breaker.apply(self, &path.key("breaker"), &mut breaker);
        if breaker.max_open < breaker.open {
            let problem = Problem::at(
                path.key("breaker").key("max_open"),
                "`breaker.max_open` is shorter than `breaker.open`",
            );
            self.add(problem.mend("make it as long, or longer"));
        }
        group.balance.breaker = (breaker.failures > 0).then_some(breaker);
        raw.retry.apply(self, &path.key("retry"), &mut group.retry);
        group.balance.strategy = raw.balance.map(RawBalance::read).unwrap_or_default();
        let (at, default) = (path.key("slow_start"), group.balance.slow_start);
        group.balance.slow_start = self.within(&at, raw.slow_start, default, &SLOW_START);
        group.shared_sessions = raw.shared_sessions.unwrap_or(false);
        Some(Box::new(group))
    }

    fn replicas(
        &mut self,
        raw: &[RawReplica],
        path: &Path,
        listen: SocketAddr,
    ) -> Vec<ReplicaConfig> {
        let list = path.key("replicas");
        if raw.is_empty() || raw.len() > MAX_REPLICAS {
            let message = format!("{} replicas are not from 1 to {MAX_REPLICAS}", raw.len());
            let mend = "write `replicas = [{ url = \"http://10.0.0.1:3001/mcp\" }, ...]`";
            self.add(Problem::at(list, message).mend(mend));
            return Vec::new();
        }
        let mut replicas: Vec<ReplicaConfig> = Vec::with_capacity(raw.len());
        for (index, raw) in raw.iter().enumerate() {
            let Some(replica) = self.replica(raw, &list.index(index), listen) else {
                continue;
            };
            if replicas.iter().any(|other| other.name == replica.name) {
                let message = format!("two replicas are called `{}`", replica.name);
                let at = list.index(index).key("name");
                self.add(Problem::at(at, message).mend("give each a name of its own"));
            }
            replicas.push(replica);
        }
        replicas
    }

    fn replica(
        &mut self,
        raw: &RawReplica,
        at: &Path,
        listen: SocketAddr,
    ) -> Option<ReplicaConfig> {
        let Some(url) = &raw.url else {
            let problem = Problem::at(at.clone(), "the replica has no `url`");
            self.add(problem.mend("add `url = \"http://10.0.0.1:3001/mcp\"`"));
            return None;
        };
        let url = self.url(Some(url), at, listen)?;
        let name = match &raw.name {
            Some(name) if is_name(name) => name.clone(),
            Some(name) => {
                let message = format!("`{name}` cannot be the name of a replica");
                let problem = Problem::at(at.key("name"), message);
                self.add(problem.mend("use 1 to 64 letters, digits, `-`, `_` and `.`"));
                return None;
            }
            None => host_of(&url),
        };
        Some(ReplicaConfig {
            weight: self.within(&at.key("weight"), raw.weight, 1, &WEIGHT),
            ..ReplicaConfig::new(name, url)
        })
    }
}

/// What a replica is called that was given no name.
fn host_of(url: &Uri) -> String {
    url.authority().map(ToString::to_string).unwrap_or_default()
}

/// Puts what is in effect where it is shown.
pub(super) fn show(group: &GroupConfig, written: Option<&Node>, raw: &mut RawUpstream) {
    let none = BreakerConfig {
        failures: 0,
        ..BreakerConfig::default()
    };
    raw.breaker = RawBreaker::shown(&group.balance.breaker.unwrap_or(none));
    if group.replicas.is_empty() {
        return;
    }
    let list = written.and_then(|node| node.at(&Path::default().key("replicas")));
    let replicas = group.replicas.iter().enumerate().map(|(index, replica)| {
        let table = list.and_then(|node| node.at(&Path::default().index(index)));
        RawReplica {
            name: shown_name(replica, table),
            url: Some(plain(table, "url", replica.url.to_string())),
            weight: Some(Quantity::write(replica.weight)),
        }
    });
    raw.url = None;
    raw.replicas = Some(replicas.collect());
    raw.balance = Some(RawBalance::write(group.balance.strategy));
    raw.slow_start = Some(Quantity::write(group.balance.slow_start));
    raw.shared_sessions = Some(group.shared_sessions);
    raw.retry = RawRetry::shown(&group.retry);
}

/// The name that it was given. One that comes from its URL cannot be written as a name, and need not be.
fn shown_name(replica: &ReplicaConfig, table: Option<&Node>) -> Option<String> {
    let is_own = *replica.name != *host_of(&replica.url);
    is_own.then(|| plain(table, "name", Arc::clone(&replica.name).to_string()))
}
