//! The processes that are measured and the upstream behind them.

use std::fmt;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
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
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => formatter.write_str("direct"),
            Self::Floor => formatter.write_str("floor"),
            Self::Nginx => formatter.write_str("nginx"),
            Self::Pass => formatter.write_str("pass"),
            Self::Inspect(3) => formatter.write_str("inspect"),
            Self::Inspect(count) => write!(formatter, "inspect{count}"),
        }
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "direct" => Self::Direct,
            "floor" => Self::Floor,
            "nginx" => Self::Nginx,
            "pass" => Self::Pass,
            "inspect" => Self::Inspect(3),
            _ => bail!("no target {name}: direct, floor, nginx, pass or inspect"),
        })
    }
}

/// Where the programs are, and where logs and configurations go.
pub(crate) struct Tools {
    pub(crate) bench: PathBuf,
    pub(crate) thinpipe: Option<PathBuf>,
    pub(crate) nginx: Option<PathBuf>,
    pub(crate) scratch: PathBuf,
}

/// A process that ends when this is dropped.
pub(crate) struct Process {
    pub(crate) address: SocketAddr,
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

    /// Starts a proxy in front of `upstream`, without waiting for it.
    pub(crate) fn proxy(&self, target: Target, upstream: SocketAddr) -> Result<Process> {
        let address = free_address()?;
        let command = match target {
            Target::Direct => bail!("nothing is to be started for a direct run"),
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
            Target::Pass => {
                let mut command = Command::new(self.thinpipe()?);
                command.args(["--listen", &address.to_string()]);
                command.args(["--admin", &free_address()?.to_string()]);
                command.arg(format!("http://{upstream}/mcp"));
                command
            }
            Target::Inspect(count) => {
                let file = self.folder(address)?.join("thinpipe.toml");
                fs::write(
                    &file,
                    config::inspect(count, address, free_address()?, upstream),
                )?;
                let mut command = Command::new(self.thinpipe()?);
                command.args(["serve", "--config"]).arg(file);
                command
            }
        };
        self.spawn(command, &target.to_string(), address)
    }

    /// The file whose size counts; `None` for what has no single one.
    pub(crate) fn program(&self, target: Target) -> Option<&Path> {
        match target {
            Target::Direct => None,
            Target::Floor => Some(&self.bench),
            Target::Nginx => self.nginx.as_deref(),
            Target::Pass | Target::Inspect(_) => self.thinpipe.as_deref(),
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

const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;
static NEXT: AtomicU16 = AtomicU16::new(0);
