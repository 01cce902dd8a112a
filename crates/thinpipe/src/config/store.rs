//! Where sessions are kept, with what nodes share.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::time::Duration;

use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};
use thinpipe_store::{InvalidRedisUrl, RedisConfig, RedisCredentials, RedisKind};

use super::build::Build;
use super::effective::{hidden, plain, template, written_as};
use super::problem::{Place, Problem};
use super::quantity::Period;
use super::settings::{Given, Layers, Names};
use super::tables::{Bounds, Number};
use super::tree::{Node, Path, Value};

/// Where sessions are kept.
#[derive(Debug, Clone, Default)]
pub(crate) enum StoreConfig {
    /// In this process, and nowhere else.
    #[default]
    Memory,
    /// In Redis or Valkey, with what nodes share.
    Redis(Box<RedisConfig>),
}

/// `store`: a URL, or a table that has one.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum RawStore {
    Url(String),
    Table(Box<RawStoreTable>),
}

/// `[store]`
#[derive(Debug, Clone, Default, Serialize, DeriveDeserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawStoreTable {
    /// Where it is.
    pub(crate) url: Option<String>,
    /// Name of an ACL user.
    pub(crate) user: Option<String>,
    /// Its password.
    pub(crate) password: Option<String>,
    /// A file that holds it.
    pub(crate) password_file: Option<String>,
    /// The same for sentinels.
    pub(crate) sentinel_user: Option<String>,
    pub(crate) sentinel_password: Option<String>,
    pub(crate) sentinel_password_file: Option<String>,
    /// A file of certificates in PEM.
    pub(crate) ca_file: Option<String>,
    /// What all keys begin with.
    pub(crate) prefix: Option<String>,
    /// How long an operation may take.
    pub(crate) operation_timeout: Option<Period>,
    /// How long a connection may take to come about.
    pub(crate) connect_timeout: Option<Period>,
    /// How often an operation is tried.
    pub(crate) tries: Option<Number>,
}

impl<'de> Deserialize<'de> for RawStore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrTable)
    }
}

struct TextOrTable;

impl<'de> Visitor<'de> for TextOrTable {
    type Value = RawStore;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"memory\", a URL such as \"redis://127.0.0.1:6379\", or a table with `url`")
    }

    fn visit_str<E: Error>(self, url: &str) -> Result<RawStore, E> {
        Ok(RawStore::Url(url.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawStore, A::Error> {
        RawStoreTable::deserialize(MapAccessDeserializer::new(map))
            .map(|table| RawStore::Table(Box::new(table)))
    }
}

const MEMORY: &str = "memory";
/// Bytes of a file with a password, and of one with certificates.
const MAX_PASSWORD_FILE: u64 = 4 << 10;
const MAX_CA_FILE: u64 = 4 << 20;
const MAX_PREFIX: usize = 64;

const TIMEOUTS: Bounds<Period> = Bounds::new(
    Period(Duration::from_millis(10)),
    Period(Duration::from_secs(60)),
);
const TRIES: Bounds<Number> = Bounds::new(1, 10);

impl Build {
    /// Where sessions are kept. No message quotes the URL, which may hold a password.
    pub(super) fn store(&mut self, raw: Option<RawStore>, layers: &Layers) -> StoreConfig {
        let (file, table, key): (_, _, &'static [&'static str]) = match raw {
            None => (None, None, &["store"]),
            Some(RawStore::Url(url)) => (Some(url), None, &["store"]),
            Some(RawStore::Table(table)) => (table.url.clone(), Some(table), &["store", "url"]),
        };
        let names = Names {
            flag: "--store",
            variable: "THINPIPE_STORE",
            key,
        };
        let given = layers.one(&names, |settings| settings.store.as_ref(), file);
        let Some(given) = given else {
            if table.is_some() {
                let problem = Problem::at(Path::default().key("store"), "the store has no `url`");
                self.add(problem.mend("add `url = \"redis://127.0.0.1:6379\"`"));
            }
            return StoreConfig::Memory;
        };
        let table = table.unwrap_or_default();
        if given.value == MEMORY {
            if matches!(given.place, Place::Path(_)) {
                self.strangers_to_memory(&table);
            }
            return StoreConfig::Memory;
        }
        match given.value.parse::<RedisConfig>() {
            Ok(config) => StoreConfig::Redis(Box::new(self.redis(config, *table, &given))),
            Err(error) => {
                let problem = Problem::new(given.place, format!("this is no store: {error}"));
                let mend = match error {
                    InvalidRedisUrl::Name => {
                        "write it as in redis+sentinel://127.0.0.1:26379/mymaster"
                    }
                    InvalidRedisUrl::Cluster => "write it as in redis+cluster://127.0.0.1:6379",
                    _ => {
                        "write it as in redis://127.0.0.1:6379, or \"memory\" for this process alone"
                    }
                };
                self.add(problem.mend(mend));
                StoreConfig::Memory
            }
        }
    }

    fn strangers_to_memory(&mut self, table: &RawStoreTable) {
        for key in table.written() {
            let message = format!("`{key}` means nothing to a store in memory");
            let at = Path::default().key("store").key(key);
            self.add(Problem::at(at, message).mend("remove it, or name a Redis"));
        }
    }

    fn redis(
        &mut self,
        mut config: RedisConfig,
        table: RawStoreTable,
        given: &Given<String>,
    ) -> RedisConfig {
        let at = Path::default().key("store");
        let login = [table.user, table.password, table.password_file];
        if config.credentials.is_some() && login.iter().any(Option::is_some) {
            let message = "the URL holds a user or a password, and so does the table";
            let problem = Problem::new(given.place.clone(), message);
            self.add(problem.mend("take them out of one of them"));
        }
        let keys = ["user", "password", "password_file"];
        let own = self.credentials(login, keys, &at);
        config.credentials = config.credentials.or(own);

        let login = [
            table.sentinel_user,
            table.sentinel_password,
            table.sentinel_password_file,
        ];
        let keys = [
            "sentinel_user",
            "sentinel_password",
            "sentinel_password_file",
        ];
        if !matches!(config.kind, RedisKind::Sentinel { .. }) {
            let written = login.iter().zip(keys).filter(|(value, _)| value.is_some());
            for (_, key) in written {
                let message = format!("`{key}` means something only with redis+sentinel://");
                self.add(Problem::at(at.key(key), message).mend("remove it"));
            }
        }
        config.sentinel_credentials = self.credentials(login, keys, &at);
        if let Some(file) = table.ca_file {
            config.tls_roots = self.certificates(&file, config.tls, at.key("ca_file"));
        }
        if let Some(prefix) = table.prefix {
            config.prefix = self.prefix(prefix, at.key("prefix"));
        }
        let (operation, connect) = (&mut config.operation_timeout, &mut config.connect_timeout);
        let path = at.key("operation_timeout");
        *operation = self.within(&path, table.operation_timeout, *operation, &TIMEOUTS);
        let path = at.key("connect_timeout");
        *connect = self.within(&path, table.connect_timeout, *connect, &TIMEOUTS);
        config.tries = self.within(&at.key("tries"), table.tries, config.tries, &TRIES);
        config
    }

    /// Whom one is to Redis: a user, a password, or a file that holds it, under these keys.
    fn credentials(
        &mut self,
        [user, password, file]: [Option<String>; 3],
        [user_key, password_key, file_key]: [&str; 3],
        at: &Path,
    ) -> Option<RedisCredentials> {
        let password = match (password, file) {
            (Some(_), Some(_)) => {
                let message = format!("there are both `{password_key}` and `{file_key}`");
                self.add(Problem::at(at.key(file_key), message).mend("remove one of them"));
                return None;
            }
            (Some(password), None) => password,
            (None, Some(file)) => match read(&file, MAX_PASSWORD_FILE) {
                Ok(text) => text.trim_end_matches(['\r', '\n']).to_owned(),
                Err(error) => {
                    let message = format!("`{file}` cannot be read: {error}");
                    let mend = "name a file that holds the password";
                    self.add(Problem::at(at.key(file_key), message).mend(mend));
                    return None;
                }
            },
            (None, None) => {
                if user.is_some() {
                    let message = "there is a user without a password";
                    let mend = format!("add `{password_key}` or `{file_key}`");
                    self.add(Problem::at(at.key(user_key), message).mend(mend));
                }
                return None;
            }
        };
        Some(RedisCredentials { user, password })
    }

    fn certificates(&mut self, file: &str, tls: bool, at: Path) -> Option<Bytes> {
        if !tls {
            let message = "certificates mean something only with rediss://";
            self.add(Problem::at(at, message).mend("write rediss:// in the URL, or remove this"));
            return None;
        }
        let wrong = match read(file, MAX_CA_FILE) {
            Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => return Some(text.into()),
            Ok(_) => format!("`{file}` holds no certificate in PEM"),
            Err(error) => format!("`{file}` cannot be read: {error}"),
        };
        let mend = "name a file of certificates that begin with -----BEGIN CERTIFICATE-----";
        self.add(Problem::at(at, wrong).mend(mend));
        None
    }

    fn prefix(&mut self, prefix: String, at: Path) -> String {
        // Braces would be taken for the tag by which a cluster keeps together what belongs together.
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if prefix.is_empty() || prefix.len() > MAX_PREFIX || !prefix.bytes().all(fits) {
            let message = format!("`{prefix}` cannot be what keys begin with");
            let mend = "use 1 to 64 letters, digits, `-`, `_`, `.` and `:`";
            self.add(Problem::at(at, message).mend(mend));
        }
        prefix
    }
}

fn read(file: &str, most: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}

impl RawStoreTable {
    /// Keys that are written, beside `url`.
    fn written(&self) -> Vec<&'static str> {
        let keys = [
            ("user", self.user.is_some()),
            ("password", self.password.is_some()),
            ("password_file", self.password_file.is_some()),
            ("sentinel_user", self.sentinel_user.is_some()),
            ("sentinel_password", self.sentinel_password.is_some()),
            (
                "sentinel_password_file",
                self.sentinel_password_file.is_some(),
            ),
            ("ca_file", self.ca_file.is_some()),
            ("prefix", self.prefix.is_some()),
            ("operation_timeout", self.operation_timeout.is_some()),
            ("connect_timeout", self.connect_timeout.is_some()),
            ("tries", self.tries.is_some()),
        ];
        let written = keys.into_iter().filter(|(_, written)| *written);
        written.map(|(key, _)| key).collect()
    }
}

impl fmt::Display for StoreConfig {
    /// Where it is, without credentials: a URL, or "memory".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Redis(config) = self else {
            return f.write_str(MEMORY);
        };
        f.write_str(if config.tls { "rediss" } else { "redis" })?;
        f.write_str(match config.kind {
            RedisKind::Single => "://",
            RedisKind::Sentinel { .. } => "+sentinel://",
            RedisKind::Cluster => "+cluster://",
        })?;
        for (index, (host, port)) in config.addresses.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match host.contains(':') {
                true => write!(f, "{comma}[{host}]:{port}")?,
                false => write!(f, "{comma}{host}:{port}")?,
            }
        }
        match &config.kind {
            RedisKind::Sentinel { master } => write!(f, "/{master}"),
            RedisKind::Single if config.database != 0 => write!(f, "/{}", config.database),
            RedisKind::Single | RedisKind::Cluster => Ok(()),
        }
    }
}

/// What is in effect, with every key that has a value. `tree` is the file.
pub(super) fn shown(store: &StoreConfig, tree: &Node) -> RawStore {
    let StoreConfig::Redis(config) = store else {
        return RawStore::Url(MEMORY.to_owned());
    };
    let written = tree.at(&Path::default().key("store"));
    let at = |key: &str| written.and_then(|table| table.at(&Path::default().key(key)));
    let text = |key: &str| match at(key).map(|node| &node.value) {
        Some(Value::Text(text)) => Some(plain(written, key, text.value.clone())),
        _ => None,
    };
    let (url, holds_credentials) = shown_url(store, at("url").or(written));
    let login = |credentials: &Option<RedisCredentials>, keys: [&str; 2]| {
        let file = credentials.as_ref().and_then(|_| text(keys[1]));
        let user = credentials.as_ref().and_then(|it| it.user.clone());
        let is_said = credentials.is_some() && file.is_none();
        (user, is_said.then(|| hidden(at(keys[0]))), file)
    };
    let own = match holds_credentials {
        true => &None,
        false => &config.credentials,
    };
    let (user, password, password_file) = login(own, ["password", "password_file"]);
    let keys = ["sentinel_password", "sentinel_password_file"];
    let (sentinel_user, sentinel_password, sentinel_password_file) =
        login(&config.sentinel_credentials, keys);
    RawStore::Table(Box::new(RawStoreTable {
        url: Some(url),
        user,
        password,
        password_file,
        sentinel_user,
        sentinel_password,
        sentinel_password_file,
        ca_file: config.tls_roots.as_ref().and_then(|_| text("ca_file")),
        prefix: Some(config.prefix.clone()),
        operation_timeout: Some(Period(config.operation_timeout)),
        connect_timeout: Some(Period(config.connect_timeout)),
        tries: Some(config.tries.into()),
    }))
}

/// As it stands in the file, if it does, came from the environment and shows no password; and whether it holds
/// one all the same.
fn shown_url(store: &StoreConfig, written: Option<&Node>) -> (String, bool) {
    let shown = store.to_string();
    let Some((node, Value::Text(text))) = written.map(|node| (node, &node.value)) else {
        return (shown, false);
    };
    let is_this = text
        .value
        .parse()
        .map(|it| StoreConfig::Redis(Box::new(it)));
    let is_this = is_this.is_ok_and(|written| written.to_string() == shown);
    match template(node).filter(|template| is_this && !template.contains('@')) {
        Some(template) => {
            let holds_credentials = text.value.contains('@');
            (written_as(template, holds_credentials), holds_credentials)
        }
        None => (shown, false),
    }
}
