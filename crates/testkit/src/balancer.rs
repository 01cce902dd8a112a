//! nginx as a plain round-robin balancer, with the configuration that is recommended for it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Process;
use crate::sockets::free_port;

/// nginx in front of gateways: no request needs to come back to where the one before went. It is killed when dropped.
#[derive(Debug)]
pub struct Balancer {
    port: u16,
    _process: Process,
    folder: PathBuf,
}

impl Balancer {
    /// Starts it, and waits until it takes connections. `deployed` is the configuration file that users are given: its
    /// lines `server HOST OPTIONS;` become these gateways, with the options of the first, and the port a free one.
    ///
    /// # Panics
    /// If nginx is not installed, or does not take the configuration.
    pub async fn start(deployed: &str, gateways: &[SocketAddr]) -> Self {
        let port = free_port();
        let folder = format!("thinpipe-nginx-{}-{port}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).expect("there is a place for temporary files");
        let command = balancer_command(deployed, gateways, port, &folder);
        let process = Process::start_command(command.into());
        process.line_with(BALANCER_LISTENS).await;
        Self {
            port,
            _process: process,
            folder,
        }
    }

    /// A gateway's URL, by way of it.
    ///
    /// # Panics
    /// If that is not `http://ADDRESS/PATH`.
    #[must_use]
    pub fn before(&self, url: &str) -> String {
        let path = url.splitn(4, '/').nth(3).expect("the URL has a path");
        format!("http://127.0.0.1:{}/{path}", self.port)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // What is left of it is in the system's place for what may be removed.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// nginx in front of these gateways at a port, for tests that have processes of their own. Its configuration is written
/// to a folder, in which there must be nothing else of its kind.
///
/// # Panics
/// If the folder cannot be written to.
#[must_use]
pub fn balancer_command(
    deployed: &str,
    gateways: &[SocketAddr],
    port: u16,
    folder: &Path,
) -> Command {
    let file = folder.join("nginx.conf");
    std::fs::write(&file, configuration(deployed, gateways, port, folder))
        .expect("the folder can be written to");
    let mut command = Command::new(program());
    command.arg("-p").arg(folder).arg("-c").arg(&file);
    command
}

/// What is in a line that it writes when it listens.
pub const BALANCER_LISTENS: &str = "getrlimit(RLIMIT_NOFILE)";

/// The deployed configuration with other addresses, for a program in the foreground that writes nothing elsewhere.
fn configuration(deployed: &str, gateways: &[SocketAddr], port: u16, folder: &Path) -> String {
    let folder = folder.display();
    let mut text = format!(
        "daemon off;\nerror_log stderr notice;\npid {folder}/pid;\n\
         # Workers would outlive a master that is killed.\nmaster_process off;\n"
    );
    let mut are_named = false;
    for line in deployed.lines() {
        let said = line.trim();
        if let Some(server) = said.strip_prefix("server ").filter(|_| said.ends_with(';')) {
            if !are_named {
                let options = server.find([' ', ';']).map_or(";", |end| &server[end..]);
                for gateway in gateways {
                    let _ = writeln!(text, "        server {gateway}{options}");
                }
            }
            are_named = true;
            continue;
        }
        if said.starts_with("listen ") {
            let _ = writeln!(text, "        listen 127.0.0.1:{port};");
            continue;
        }
        let _ = writeln!(text, "{line}");
        if said == "http {" {
            let _ = writeln!(text, "    access_log off;");
            for what in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
                let _ = writeln!(text, "    {what}_temp_path {folder}/{what};");
            }
        }
    }
    assert!(are_named, "no line names a gateway:\n{deployed}");
    text
}

/// Debian has servers where the paths of users do not lead.
fn program() -> &'static Path {
    let debian = Path::new("/usr/sbin/nginx");
    if debian.is_file() {
        debian
    } else {
        Path::new("nginx")
    }
}
