//! Redis servers of a test's own: on free ports, in a folder of their own, without persistence.

mod cluster;
mod reply;
mod sentinel;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use tokio::net::TcpStream;

use crate::process::Process;
use crate::sockets::free_port;

pub use cluster::RedisCluster;
pub use reply::RedisReply;
pub use sentinel::RedisSentinel;

/// A running `redis-server`, on 127.0.0.1. It ends when this is dropped, and so does what it keeps.
///
/// ```no_run
/// # async fn example() {
/// use thinpipe_testkit::Redis;
///
/// let mut redis = Redis::start().await;
/// redis.command(&["SET", "key", "value"]).await;
/// redis.kill().await;
/// redis.restart().await;
/// assert_eq!(redis.command(&["DBSIZE"]).await.number(), 0);
/// # }
/// ```
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: u16,
    tls_port: Option<u16>,
    folder: Folder,
    arguments: Vec<OsString>,
}

impl Redis {
    /// Starts a server.
    ///
    /// # Panics
    /// If there is no `redis-server`, or it does not start.
    pub async fn start() -> Self {
        Self::start_with(|_, _| Vec::new()).await
    }

    /// Starts a server that is also reached under TLS, with a certificate and its key in PEM.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub async fn start_with_tls(certificate: &str, key: &str) -> Self {
        let tls_port = free_port();
        let options = |folder: &Path, _| {
            let (certificate_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
            fs::write(&certificate_file, certificate).expect("the folder can be written to");
            fs::write(&key_file, key).expect("the folder can be written to");
            vec![
                ("--tls-port".into(), tls_port.to_string().into()),
                ("--tls-cert-file".into(), certificate_file.into()),
                ("--tls-key-file".into(), key_file.into()),
                ("--tls-auth-clients".into(), "no".into()),
            ]
        };
        let mut server = Self::start_with(options).await;
        server.tls_port = Some(tls_port);
        server
    }

    /// Starts a server with options that depend on its folder and its port.
    async fn start_with(options: impl FnOnce(&Path, u16) -> Vec<(OsString, OsString)>) -> Self {
        let port = free_port();
        let folder = Folder::new(port);
        let mut arguments: Vec<OsString> = Vec::new();
        let always = [
            ("--port", port.to_string()),
            ("--bind", "127.0.0.1".to_owned()),
            ("--save", String::new()),
            ("--appendonly", "no".to_owned()),
            ("--repl-diskless-sync-delay", "0".to_owned()),
        ];
        for (name, value) in always {
            arguments.extend([name.into(), value.into()]);
        }
        arguments.extend(["--dir".into(), folder.0.clone().into()]);
        let of_this = options(&folder.0, port);
        arguments.extend(of_this.into_iter().flat_map(|(name, value)| [name, value]));
        Self {
            process: started(&arguments).await,
            port,
            tls_port: None,
            folder,
            arguments,
        }
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its port for TLS.
    ///
    /// # Panics
    /// If it was not started with TLS.
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.tls_port.expect("it was started with TLS")
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends a command and gives the answer, over a connection of its own.
    ///
    /// # Panics
    /// If there is no answer, or it is an error.
    pub async fn command(&self, words: &[&str]) -> RedisReply {
        let connection = TcpStream::connect(("127.0.0.1", self.port)).await;
        let connection = connection.expect("the server takes connections");
        reply::ask(connection, words).await
    }

    /// Kills it. What it keeps is gone.
    ///
    /// # Panics
    /// If it could not be killed.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Starts it again after [`Redis::kill`], at the same place.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub async fn restart(&mut self) {
        self.process = started(&self.arguments).await;
    }

    /// Lets it stand still: it takes connections (its kernel does) and answers nothing.
    ///
    /// # Panics
    /// If it has ended.
    pub async fn pause(&self) {
        self.process.signal("STOP").await;
    }

    /// Lets it go on after [`Redis::pause`].
    ///
    /// # Panics
    /// If it has ended.
    pub async fn resume(&self) {
        self.process.signal("CONT").await;
    }

    /// Where it may write.
    fn folder(&self) -> &Path {
        &self.folder.0
    }
}

/// A folder that is removed when it is dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new(port: u16) -> Self {
        let name = format!("thinpipe-redis-{}-{port}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("there is a place for temporary files");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it is in the system's place for what may be removed.
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn started(arguments: &[OsString]) -> Process {
    let version = std::process::Command::new(PROGRAM)
        .arg("--version")
        .output();
    assert!(
        version.is_ok(),
        "these tests need {PROGRAM}: apt-get install redis-server, or cargo xtask test, which does"
    );
    let process = Process::start(PROGRAM, arguments);
    process.line_with("Ready to accept connections").await;
    process
}

const PROGRAM: &str = "redis-server";
