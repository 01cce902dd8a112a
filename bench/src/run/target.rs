//! The processes that are measured and the upstream behind them.

use std::fmt;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::config;
use crate::upstream::Listening;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    Direct,
    Floor,
    Nginx,
    Pass,
    /// Thinpipe with this many interceptors that read every message.
    Inspect(u8),
    /// [`Target::Pass`] that keeps its sessions in Redis.
    Redis,
    /// [`Target::Inspect`] with ids of its own for events, and what it keeps of them in memory.
    Log(u8),
    /// The same, with sessions and events in Redis.
    LogRedis(u8),
    /// [`Target::Pass`] that does not resume its server, and so need not know which event was the last.
    Untracked,
    /// Thinpipe in front of a server that is held to have no sessions.
    Upgrade,
    /// Thinpipe in front of a server that is held to have sessions only.
    Downgrade,
    /// Thinpipe in front of servers on stdio, one for each client.
    Stdio,
    /// A bare hyper server that answers what [`Target::Library`] does.
    Bare,
    /// A server on the library, over Streamable HTTP.
    Library,
    /// The same process, over HTTP+SSE.
    HttpSse,
    /// [`Target::Library`] once more: how far two runs of the same thing are apart.
    Again,
    /// [`Target::Library`] while [`BESIDE`] clients of HTTP+SSE are connected and idle.
    Beside,
}

impl Target {
    /// The name under which it is chosen; every length of chain is `inspect`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Floor => "floor",
            Self::Nginx => "nginx",
            Self::Pass => "pass",
            Self::Inspect(_) => "inspect",
            Self::Redis => "redis",
            Self::Log(_) => "log",
            Self::LogRedis(_) => "log+redis",
            Self::Untracked => "untracked",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::Stdio => "stdio",
            Self::Bare => "hyper",
            Self::Library => "library",
            Self::HttpSse => "http+sse",
            Self::Again => "again",
            Self::Beside => "beside",
        }
    }

    /// Whose process is asked.
    pub(crate) fn host(self) -> Self {
        match self {
            Self::HttpSse | Self::Again | Self::Beside => Self::Library,
            other => other,
        }
    }

    /// Whether the upstream stands behind it.
    pub(crate) fn is_proxy(self) -> bool {
        matches!(self, Self::Direct | Self::Floor | Self::Nginx) || self.is_gateway()
    }

    /// Whether a Redis stands beside it.
    pub(crate) fn has_store(self) -> bool {
        matches!(self, Self::Redis | Self::LogRedis(_))
    }

    /// Whether it is Thinpipe with the upstream behind it.
    fn is_gateway(self) -> bool {
        matches!(
            self,
            Self::Pass
                | Self::Inspect(_)
                | Self::Redis
                | Self::Log(_)
                | Self::LogRedis(_)
                | Self::Untracked
                | Self::Upgrade
                | Self::Downgrade
        )
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inspect(count) if *count != 3 => write!(formatter, "inspect{count}"),
            Self::Log(count) | Self::LogRedis(count) if *count > 0 => {
                write!(formatter, "{}, {count} interceptors", self.name())
            }
            other => formatter.write_str(other.name()),
        }
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = NAMED.iter().find(|target| target.name() == name);
        known.copied().with_context(|| {
            let names: Vec<_> = NAMED.iter().map(|target| target.name()).collect();
            format!("no target {name}: {}", names.join(", "))
        })
    }
}

/// Where the programs are, and where logs and configurations go.
pub(crate) struct Tools {
    pub(crate) bench: PathBuf,
    pub(crate) thinpipe: Option<PathBuf>,
    pub(crate) nginx: Option<PathBuf>,
    pub(crate) redis: PathBuf,
    pub(crate) scratch: PathBuf,
}

/// A process that ends when this is dropped.
pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    /// Where a server on the library tells what it holds.
    pub(crate) gauges: SocketAddr,
    child: Child,
    name: String,
}

impl Tools {
    /// Starts an upstream and waits until it accepts connections.
    pub(crate) fn upstream(&self, listening: Listening) -> Result<Process> {
        let address = free_address()?;
        let mut command = Command::new(&self.bench);
        let listening = if listening == Listening::Idle {
            "idle"
        } else {
            "flood"
        };
        command.args([
            "upstream",
            "--listen",
            &address.to_string(),
            "--listening",
            listening,
        ]);
        let mut process = self.spawn(command, "upstream", address)?;
        process.accepts()?;
        Ok(process)
    }

    /// Starts an empty Redis that keeps nothing on disk, and waits until it accepts connections.
    pub(crate) fn store(&self) -> Result<Process> {
        let address = free_address()?;
        let mut command = Command::new(&self.redis);
        command.args(["--port", &address.port().to_string()]);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(self.folder(address)?);
        let mut process = self.spawn(command, "redis-server", address)?;
        process.accepts()?;
        Ok(process)
    }

    /// Starts a server, or a proxy in front of `upstream`, without waiting for it.
    pub(crate) fn start(&self, target: Target, upstream: Option<&Process>) -> Result<Process> {
        self.start_with(target, upstream, None)
    }

    /// Starts a server, or a proxy in front of `upstream` and beside `store`, without waiting for it.
    pub(crate) fn start_with(
        &self,
        target: Target,
        upstream: Option<&Process>,
        store: Option<&Process>,
    ) -> Result<Process> {
        let target = target.host();
        if target.is_proxy() {
            let upstream = upstream.context("a proxy wants an upstream")?;
            self.proxy(target, upstream.address, store)
        } else {
            self.server(target)
        }
    }

    fn server(&self, target: Target) -> Result<Process> {
        let (address, gauges) = (free_address()?, free_address()?);
        let mut command = Command::new(&self.bench);
        match target {
            Target::Bare => {
                command.args(["bare", "--listen", &address.to_string()]);
            }
            Target::Library => {
                command.args(["library", "--listen", &address.to_string()]);
                command.args(["--gauges", &gauges.to_string()]);
            }
            Target::Stdio => {
                command = Command::new(self.thinpipe()?);
                command.args(["--listen", &address.to_string()]);
                command.args(["--admin", &gauges.to_string(), "--"]);
                command.arg(&self.bench).arg("stdio");
            }
            other => bail!("{other} is no server"),
        }
        let mut server = self.spawn(command, &target.to_string(), address)?;
        server.gauges = gauges;
        Ok(server)
    }

    fn proxy(
        &self,
        target: Target,
        upstream: SocketAddr,
        store: Option<&Process>,
    ) -> Result<Process> {
        let address = free_address()?;
        let command = match target {
            Target::Floor => {
                let (listen, to) = (address.to_string(), upstream.to_string());
                let mut command = Command::new(&self.bench);
                command.args(["floor", "--listen", &listen, "--upstream", &to]);
                command
            }
            Target::Nginx => {
                let nginx = self
                    .nginx
                    .as_ref()
                    .context("nginx was not found: give --nginx")?;
                let folder = self.folder(address)?;
                let file = folder.join("nginx.conf");
                fs::write(&file, config::nginx(&folder, address, upstream))?;
                let mut command = Command::new(nginx);
                command.arg("-p").arg(&folder).arg("-c").arg(&file);
                command.arg("-e").arg(folder.join("error.log"));
                command
            }
            _ if target.is_gateway() => {
                let store = store.map(|store| store.address);
                ensure!(
                    store.is_some() == target.has_store(),
                    "{target} and its store do not fit"
                );
                let config = config::gateway(target, address, free_address()?, (upstream, store));
                self.configured(address, &config)?
            }
            other => bail!("{other} is no proxy that can be started"),
        };
        self.spawn(command, &target.to_string(), address)
    }

    fn configured(&self, address: SocketAddr, config: &str) -> Result<Command> {
        let file = self.folder(address)?.join("thinpipe.toml");
        fs::write(&file, config)?;
        let mut command = Command::new(self.thinpipe()?);
        command.args(["serve", "--config"]).arg(file);
        Ok(command)
    }

    /// The file whose size counts; `None` for what has no single one, or is a part of this program.
    pub(crate) fn program(&self, target: Target) -> Option<&Path> {
        match target.host() {
            Target::Floor => Some(&self.bench),
            Target::Nginx => self.nginx.as_deref(),
            Target::Stdio => self.thinpipe.as_deref(),
            target if target.is_gateway() => self.thinpipe.as_deref(),
            _ => None,
        }
    }

    fn thinpipe(&self) -> Result<&Path> {
        self.thinpipe
            .as_deref()
            .context("the thinpipe targets need --thinpipe")
    }

    fn folder(&self, address: SocketAddr) -> Result<PathBuf> {
        let folder = self.scratch.join(address.port().to_string());
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn spawn(&self, mut command: Command, name: &str, address: SocketAddr) -> Result<Process> {
        let log = File::create(self.scratch.join(format!("{name}-{}.log", address.port())))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("{name} did not start"))?;
        Ok(Process {
            address,
            gauges: address,
            child,
            name: name.to_owned(),
        })
    }
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if the process has ended.
    pub(crate) fn alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(anyhow!("{} ended with {status}", self.name)),
        }
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, as a supervisor does.
    pub(crate) fn ask_to_end(&self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.context("no process")?, Signal::TERM)?)
    }

    /// Whether it has ended, and that well.
    ///
    /// # Errors
    /// It ended otherwise.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        match self.child.try_wait()? {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => Err(anyhow!("{} ended with {status}", self.name)),
        }
    }

    /// Waits until connections are accepted.
    ///
    /// # Errors
    /// The process ended, or does not accept any within ten seconds.
    pub(crate) fn accepts(&mut self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(self.address).is_err() {
            self.alive()?;
            if Instant::now() > end {
                bail!("{} accepts no connections", self.name);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Process {
    /// Asks first: nginx ends its workers only if it may.
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let asked = pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
        let end = Instant::now() + Duration::from_secs(3);
        while asked && Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address nobody uses, below the ports the kernel gives to outgoing connections.
fn free_address() -> Result<SocketAddr> {
    for _ in 0..PORTS {
        let offset = NEXT
            .fetch_add(1, Relaxed)
            .wrapping_add(std::process::id() as u16 % 997 * 11);
        let port = FIRST_PORT + offset % PORTS;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port from {FIRST_PORT} on")
}

/// Idle clients of HTTP+SSE, a stream each.
pub(crate) const BESIDE: usize = 1_000;

/// Every target that can be chosen.
pub(crate) const NAMED: &[Target] = &[
    Target::Direct,
    Target::Floor,
    Target::Nginx,
    Target::Pass,
    Target::Inspect(3),
    Target::Redis,
    Target::Log(0),
    Target::LogRedis(0),
    Target::Untracked,
    Target::Upgrade,
    Target::Downgrade,
    Target::Stdio,
    Target::Bare,
    Target::Library,
    Target::HttpSse,
    Target::Again,
    Target::Beside,
];

const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;
static NEXT: AtomicU16 = AtomicU16::new(0);
