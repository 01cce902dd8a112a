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
use super::url::parse_url;

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
        let wrong = |message: String| Problem::new(Place::Setting(OPTION.to_owned()), message);
        if let Some(rest) = behind_comma(word) {
            let problem = wrong(match option_name(rest) {
                Some(option) => format!("`{option}` is no option of a replica"),
                None => format!("`{rest}` stands behind a comma, and is no option of a replica"),
            });
            return Err(problem.mend(
                "write `,weight=N`, or, in a URL, `%2C` instead of the comma; each replica has a `--replica` of its own",
            ));
        }
        replicas.push(of_word(word).ok_or_else(|| {
            wrong(format!("`{word}` is no replica"))
                .mend("write it as in `--replica b=http://10.0.0.2:3001/mcp,weight=2`")
        })?);
    }
    Ok(Some(replicas))
}

/// Where a command line names what is wrong with one of its replicas.
pub(super) fn place_of_words(further: &[String], place: Place) -> Place {
    let Place::Path(path) = &place else {
        return place;
    };
    let list = Path::default().key("upstreams").index(0).key("replicas");
    let is_of = |index: usize| path.is_within(&list.index(index));
    let first = is_of(0).then(|| Place::Setting("URL".to_owned()));
    let mut names = further.iter().zip(1..).filter(|(_, index)| is_of(*index));
    let named = names.next().map(|(word, _)| {
        let name = word.split('=').next().unwrap_or_default();
        Place::Setting(format!("{OPTION} {name}"))
    });
    first.or(named).unwrap_or(place)
}

const OPTION: &str = "--replica";

/// What stands where an option does, behind the last comma but that of a weight.
fn behind_comma(word: &str) -> Option<&str> {
    let place = word.rsplit_once(",weight=").map_or(word, |split| split.0);
    place.rsplit_once(',').map(|(_, rest)| rest)
}

/// The name of an option, if this looks like one.
fn option_name(rest: &str) -> Option<&str> {
    let (name, _) = rest.split_once('=')?;
    let is_word = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic());
    is_word.then_some(name)
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
            if let Some(other) = replicas.iter().find(|other| other.url == replica.url) {
                let (one, other) = (&replica.name, &other.name);
                let message = format!("the replicas `{other}` and `{one}` have one URL");
                let problem = Problem::at(list.index(index).key("url"), message);
                self.add(problem.mend("remove one of them: `weight` gives a replica more"));
            } else if replicas.iter().any(|other| other.name == replica.name) {
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
        let url = match parse_url(url, listen) {
            Ok(url) => url,
            Err((message, mend)) => {
                self.add(Problem::at(at.key("url"), message).mend(mend));
                return None;
            }
        };
        let name = match &raw.name {
            Some(name) if is_replica_name(name) => name.clone(),
            Some(name) => {
                let message = format!("`{name}` cannot be the name of a replica");
                let problem = Problem::at(at.key("name"), message);
                self.add(problem.mend("use 1 to 64 letters, digits, `-`, `_`, `.` and `:`"));
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

/// A name as that of a server, or a host and a port: what a replica is called that was given none can be given to it.
fn is_replica_name(name: &str) -> bool {
    is_name(&name.replace([':', '[', ']'], "-"))
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

/// The name that it was given. One that comes from its URL need not be written.
fn shown_name(replica: &ReplicaConfig, table: Option<&Node>) -> Option<String> {
    let is_own = *replica.name != *host_of(&replica.url);
    is_own.then(|| plain(table, "name", Arc::clone(&replica.name).to_string()))
}
