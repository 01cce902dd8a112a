//! Three gateways with one Redis behind nginx, which sends each request to the next of them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::Value;
use thinpipe_testkit::{BALANCER_LISTENS, balancer_command};

use crate::peers::{Endpoint, results, serving};
use crate::process::{Process, free_port};

/// Several gateways that clients take for one.
#[derive(Debug)]
pub struct Cluster {
    /// Where the balancer is.
    pub endpoint: Endpoint,
    gateways: Vec<Gateway>,
    /// Configurations, and what nginx writes.
    folder: PathBuf,
}

#[derive(Debug)]
struct Gateway {
    /// `ADDRESS:PORT`.
    address: String,
    /// The same of its admin side.
    admin: String,
    _process: Process,
}

impl Cluster {
    /// Starts the gateways in front of a server, and what they need. `upstream` is TOML for the server's table in their
    /// configuration.
    ///
    /// # Panics
    /// If something does not start.
    #[must_use]
    pub fn before(mut server: Endpoint, upstream: &str) -> Self {
        let (redis, store) = redis();
        server.keep(redis);
        let port = free_port();
        let folder = results().join(format!("cluster-{port}"));
        fs::create_dir_all(&folder).expect(WRITABLE);
        let file = folder.join("thinpipe.toml");
        let url = &server.url;
        let text = format!(
            "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nstore = {store:?}\n\
             [[upstreams]]\nurl = {url:?}\n{upstream}\n"
        );
        fs::write(&file, text).expect(WRITABLE);
        let gateways: Vec<_> = (0..GATEWAYS).map(|_| Gateway::start(&file)).collect();
        server.keep(balancer(&gateways, port, &folder));
        Self {
            endpoint: server.moved_to(format!("http://127.0.0.1:{port}/mcp")),
            gateways,
            folder,
        }
    }

    /// Kills (SIGKILL) every gateway that writes an event stream to a client: one for each stream at most, so that
    /// with two streams there is one left.
    ///
    /// # Panics
    /// If none does, or all do.
    pub fn kill_those_that_stream(&mut self) {
        let (streaming, idle): (Vec<_>, Vec<_>) = std::mem::take(&mut self.gateways)
            .into_iter()
            .partition(|gateway| gateway.streams() > 0);
        assert!(!streaming.is_empty(), "nobody has a stream");
        assert!(!idle.is_empty(), "nobody is left");
        self.gateways = idle;
        // A child that is dropped is killed.
        drop(streaming);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // After a failure it is left to be looked at.
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

impl Gateway {
    fn start(configuration: &Path) -> Self {
        let process = serving(configuration);
        process.await_line(|line| line.contains("sessions are kept in ").then_some(()));
        Self {
            address: process.await_line(|line| address_after("listening on ", line)),
            admin: process.await_line(|line| address_after("admin on ", line)),
            _process: process,
        }
    }

    fn address(&self) -> SocketAddr {
        self.address.parse().expect("it says where it listens")
    }

    /// Event streams to clients, as it says itself.
    fn streams(&self) -> u64 {
        let mut connection = TcpStream::connect(&self.admin).expect("the admin side listens");
        let host = &self.admin;
        write!(
            connection,
            "GET /status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )
        .expect("it takes requests");
        let mut answer = String::new();
        let read = connection.read_to_string(&mut answer);
        read.expect("it answers");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status: Value = serde_json::from_str(body)
            .unwrap_or_else(|error| panic!("{error} in the status {answer}"));
        let streams = status["server"]["streams_open"].as_u64();
        streams.expect("the status counts streams")
    }
}

/// A Redis that keeps nothing on disk, and its URL.
fn redis() -> (Process, String) {
    let port = free_port().to_string();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--port", &port]);
    let process = Process::start("redis-server", &command);
    process.await_line(|line| line.contains("Ready to accept").then_some(()));
    (process, format!("redis://127.0.0.1:{port}"))
}

/// nginx with the configuration that users are given, and these gateways instead of those in it.
fn balancer(gateways: &[Gateway], port: u16, folder: &Path) -> Process {
    let addresses: Vec<_> = gateways.iter().map(Gateway::address).collect();
    let command = balancer_command(DEPLOYED, &addresses, port, folder);
    let process = Process::start("nginx", &command);
    process.await_line(|line| line.contains(BALANCER_LISTENS).then_some(()));
    process
}

/// `ADDRESS:PORT` of the URL behind this in a line.
fn address_after(text: &str, line: &str) -> Option<String> {
    let (_, url) = line.split_once(text)?;
    let (_, rest) = url.split_once("http://")?;
    let end = rest.find(|byte: char| byte == '/' || byte.is_whitespace());
    Some(rest[..end.unwrap_or(rest.len())].to_owned())
}

const GATEWAYS: usize = 3;
const WRITABLE: &str = "the target folder can be written to";

/// What users are given.
const DEPLOYED: &str = include_str!("../../deploy/nginx.conf");
