//! Where Redis is, and how long it may take.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

/// Where Redis (6.2 or later) or Valkey is, and how it is used. Made from a URL:
///
/// | URL | what is there |
/// |---|---|
/// | `redis://host:port/database` | one server |
/// | `redis+sentinel://host:port,host:port/name` | sentinels that know the server by this name |
/// | `redis+cluster://host:port,host:port` | a cluster, of which these are some nodes |
///
/// Before the hosts may stand `user:password@` or `:password@`, percent-encoded. With `rediss` instead of `redis`
/// everything is under TLS. A port that is not there is 6379, or 26379 of a sentinel.
///
/// ```
/// # use thinpipe_store::{RedisConfig, RedisKind};
/// let config: RedisConfig = "rediss+cluster://thinpipe:p%40ss@redis-0,redis-1:6380".parse()?;
/// assert_eq!(config.kind, RedisKind::Cluster);
/// assert_eq!(config.addresses[1], ("redis-1".into(), 6380));
/// # Ok::<(), thinpipe_store::InvalidRedisUrl>(())
/// ```
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// What is at the addresses.
    pub kind: RedisKind,
    /// Hosts with their ports, at least one.
    pub addresses: Vec<(String, u16)>,
    /// Whether connections are under TLS, those to sentinels too. Default: no.
    pub tls: bool,
    /// Certificates in PEM that are trusted. Default: those that the system trusts.
    pub tls_roots: Option<Bytes>,
    /// For the servers. Default: none.
    pub credentials: Option<RedisCredentials>,
    /// For the sentinels. Default: none.
    pub sentinel_credentials: Option<RedisCredentials>,
    /// Number of the database. Default: 0, the only one that a cluster has.
    pub database: i64,
    /// What all keys begin with, before a colon. Default: `thinpipe`.
    pub prefix: String,
    /// How long an operation may take, all its tries together. Default: 1 s.
    pub operation_timeout: Duration,
    /// How long a connection may take to come about; an operation does not wait for it any longer than for
    /// anything else. One to a server of a cluster has a third of [`operation_timeout`](Self::operation_timeout) at
    /// most. Default: 5 s.
    pub connect_timeout: Duration,
    /// How often an operation is tried that Redis has not done for sure, or that may be done twice. Default: 3.
    pub tries: u32,
}

/// What is at the addresses of a [`RedisConfig`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisKind {
    /// A server that has all keys.
    Single,
    /// Sentinels, which know where that server is.
    Sentinel {
        /// What they call it.
        master: String,
    },
    /// Nodes of a cluster.
    Cluster,
}

/// With what one is known to Redis. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisCredentials {
    /// Name of an ACL user. `None`: the default user.
    pub user: Option<String>,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for RedisCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCredentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A URL that says no place of Redis. What is shown of it holds no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRedisUrl {
    /// It begins with something else.
    #[error(
        "URLs of Redis begin with redis://, redis+sentinel:// or redis+cluster://, or with rediss for TLS"
    )]
    Scheme,
    /// There is no host, or an empty one.
    #[error("there is a host missing before or after a comma, or all of them")]
    Host,
    /// There are several hosts, but not of a kind that has several.
    #[error(
        "several hosts are sentinels (redis+sentinel://) or nodes of a cluster (redis+cluster://)"
    )]
    Hosts,
    /// What comes after a host and a colon is no port.
    #[error("after the last colon of a host stands its port, a number up to 65535")]
    Port,
    /// What comes after the host of a server is no number.
    #[error("after the host of a server stands the number of a database, or nothing")]
    Database,
    /// There is no name after the sentinels.
    #[error(
        "the name that sentinels know the server by stands after their hosts: redis+sentinel://host:26379/name"
    )]
    Name,
    /// There is something after the hosts of a cluster.
    #[error("a cluster has no databases to choose from")]
    Cluster,
    /// User or password hold a `%` that does not begin an encoded byte, or are not UTF-8.
    #[error("user and password are percent-encoded")]
    Encoding,
    /// There is a user without a password.
    #[error("there is a user without a password")]
    Password,
    /// There are parameters.
    #[error("there is no parameter that a URL of Redis may have")]
    Parameters,
}

impl FromStr for RedisConfig {
    type Err = InvalidRedisUrl;

    fn from_str(url: &str) -> Result<Self, InvalidRedisUrl> {
        let (scheme, rest) = url.split_once("://").ok_or(InvalidRedisUrl::Scheme)?;
        let (security, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match security {
            "redis" => false,
            "rediss" => true,
            _ => return Err(InvalidRedisUrl::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(InvalidRedisUrl::Parameters);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials.parse()?), hosts),
            None => (None, authority),
        };
        let mut database = 0;
        let kind = match kind {
            "" => {
                database = database_number(path)?;
                RedisKind::Single
            }
            "sentinel" if path.is_empty() || path.contains('/') => {
                return Err(InvalidRedisUrl::Name);
            }
            "sentinel" => RedisKind::Sentinel {
                master: path.to_owned(),
            },
            "cluster" if path.is_empty() => RedisKind::Cluster,
            "cluster" => return Err(InvalidRedisUrl::Cluster),
            _ => return Err(InvalidRedisUrl::Scheme),
        };
        let addresses = addresses(hosts, &kind)?;
        if kind == RedisKind::Single && addresses.len() > 1 {
            return Err(InvalidRedisUrl::Hosts);
        }
        Ok(Self {
            kind,
            addresses,
            tls,
            tls_roots: None,
            credentials,
            sentinel_credentials: None,
            database,
            prefix: "thinpipe".to_owned(),
            operation_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            tries: 3,
        })
    }
}

impl FromStr for RedisCredentials {
    type Err = InvalidRedisUrl;

    fn from_str(text: &str) -> Result<Self, InvalidRedisUrl> {
        let (user, password) = text.split_once(':').ok_or(InvalidRedisUrl::Password)?;
        Ok(Self {
            user: (!user.is_empty()).then(|| decoded(user)).transpose()?,
            password: decoded(password)?,
        })
    }
}

fn database_number(path: &str) -> Result<i64, InvalidRedisUrl> {
    if path.is_empty() {
        return Ok(0);
    }
    let number = path.parse::<u16>().ok().map(i64::from);
    number.ok_or(InvalidRedisUrl::Database)
}

fn addresses(hosts: &str, kind: &RedisKind) -> Result<Vec<(String, u16)>, InvalidRedisUrl> {
    let default_port = match kind {
        RedisKind::Sentinel { .. } => 26379,
        RedisKind::Single | RedisKind::Cluster => 6379,
    };
    hosts
        .split(',')
        .map(|host| address(host, default_port))
        .collect()
}

fn address(text: &str, default_port: u16) -> Result<(String, u16), InvalidRedisUrl> {
    // RFC 3986 3.2.2: colons in an address of IPv6 are within brackets.
    let after_brackets = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text[after_brackets..].split_once(':') {
        Some((host, port)) => (&text[..after_brackets + host.len()], Some(port)),
        None => (text, None),
    };
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        return Err(InvalidRedisUrl::Host);
    }
    let port = match port {
        Some(port) => port.parse().map_err(|_| InvalidRedisUrl::Port)?,
        None => default_port,
    };
    Ok((host.to_owned(), port))
}

/// Percent-decoding of RFC 3986 2.1.
fn decoded(text: &str) -> Result<String, InvalidRedisUrl> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or(InvalidRedisUrl::Encoding)?;
        let digits = std::str::from_utf8(digits).ok();
        let is_number = |digits: &&str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let byte = digits
            .filter(is_number)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or(InvalidRedisUrl::Encoding)?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| InvalidRedisUrl::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<RedisConfig, InvalidRedisUrl> {
        url.parse()
    }

    /// F14: what is not said has the defaults.
    #[test]
    fn f14_a_url_says_where_redis_is_and_how_to_get_in() {
        let config = parsed("redis://127.0.0.1").unwrap();
        assert_eq!(config.kind, RedisKind::Single);
        assert_eq!(config.addresses, [("127.0.0.1".to_owned(), 6379)]);
        assert_eq!((config.tls, config.database, config.tries), (false, 0, 3));
        assert_eq!(config.operation_timeout, Duration::from_secs(1));
        assert_eq!(config.connect_timeout, Duration::from_secs(5));
        let config = parsed("rediss://:p%40s%3as@[::1]:7000/3").unwrap();
        assert_eq!(config.addresses, [("::1".to_owned(), 7000)]);
        assert_eq!((config.tls, config.database), (true, 3));
        let credentials = config.credentials.unwrap();
        assert_eq!(
            (credentials.user, credentials.password.as_str()),
            (None, "p@s:s")
        );
        let config = parsed("redis+sentinel://u:p@a,b:1/main").unwrap();
        let master = "main".to_owned();
        assert_eq!(config.kind, RedisKind::Sentinel { master });
        let (a, b) = (("a".to_owned(), 26379), ("b".to_owned(), 1));
        assert_eq!(config.addresses, [a, b]);
        assert_eq!(config.credentials.unwrap().user.as_deref(), Some("u"));
        let config = parsed("rediss+cluster://a,[::2],c:9").unwrap();
        assert_eq!(
            (config.kind, config.addresses.len()),
            (RedisKind::Cluster, 3)
        );
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_the_password() {
        for (url, error) in [
            ("localhost", InvalidRedisUrl::Scheme),
            ("http://localhost", InvalidRedisUrl::Scheme),
            ("redis+ring://localhost", InvalidRedisUrl::Scheme),
            ("redis://", InvalidRedisUrl::Host),
            ("redis://:secret@", InvalidRedisUrl::Host),
            ("redis+cluster://a,,b", InvalidRedisUrl::Host),
            ("redis://a,b", InvalidRedisUrl::Hosts),
            ("redis://a:x", InvalidRedisUrl::Port),
            ("redis://a:65536", InvalidRedisUrl::Port),
            ("redis://:secret@::1", InvalidRedisUrl::Host),
            ("redis://user:secret", InvalidRedisUrl::Port),
            ("redis://:a/secret@b", InvalidRedisUrl::Database),
            ("redis://a/main", InvalidRedisUrl::Database),
            ("redis+sentinel://a", InvalidRedisUrl::Name),
            ("redis+cluster://a/1", InvalidRedisUrl::Cluster),
            ("redis://:%zzsecret@a", InvalidRedisUrl::Encoding),
            ("redis://:secret%2@a", InvalidRedisUrl::Encoding),
            ("redis://:%ffsecret@a", InvalidRedisUrl::Encoding),
            ("redis://secret@a", InvalidRedisUrl::Password),
            (
                "redis://:secret@a?password=secret",
                InvalidRedisUrl::Parameters,
            ),
        ] {
            let found = parsed(url).expect_err(url);
            assert_eq!(found, error, "{url}");
            assert!(!format!("{found} {found:?}").contains("secret"), "{found}");
        }
    }

    /// A13
    #[test]
    fn a13_a_password_is_not_shown() {
        let config = parsed("redis://alice:secret@a").unwrap();
        let shown = format!("{config:?}");
        assert!(
            shown.contains("alice") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
