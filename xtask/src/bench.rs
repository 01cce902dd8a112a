//! Measures the gateway beside its rivals: builds both programs, sees to nginx, and leaves the
//! rest to the benchmark's own program.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::install;

/// Runs the benchmark. All arguments but `--record` and `--nginx` go to `thinpipe-bench run`.
///
/// # Errors
/// A program cannot be built or found, or no run was good.
pub(crate) fn run(args: &[String]) -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or("xtask lies in no workspace")?;
    let target = target(root);
    let out = target.join("bench");
    let record = args.iter().any(|arg| arg == "--record");
    let passed: Vec<&String> = args.iter().filter(|arg| *arg != "--record").collect();
    let has = |name: &str| passed.iter().any(|arg| arg.split('=').next() == Some(name));

    // One at a time: built together, the gateway would get the benchmark's features.
    build(root, "thinpipe-bench")?;
    let mut bench = Command::new(target.join("release/thinpipe-bench"));
    bench.arg("run").arg("--out").arg(&out).args(&passed);
    if wants(args, GATEWAYS) && !has("--thinpipe") {
        build(root, "thinpipe")?;
        bench.arg("--thinpipe").arg(target.join("release/thinpipe"));
    }
    if wants(args, &["redis", "log+redis"])
        && matches!(chosen(args, "--sets"), None | Some("nodes"))
        && !has("--redis")
    {
        install::debian(&[("redis-server", "redis-server")])?;
    }
    let proxies = !matches!(
        chosen(args, "--sets"),
        Some("servers" | "bridges" | "nodes")
    );
    if proxies && wants(args, &["nginx"]) && !has("--nginx") {
        bench.arg("--nginx").arg(nginx(&target.join("tools"))?);
    }
    let command = format!("cargo xtask bench {}", args.join(" "));
    bench.args(["--command", command.trim()]);
    succeed(&mut bench)?;

    if record {
        for (measured, recorded) in RECORDED {
            let (measured, recorded) = (out.join(measured), root.join(recorded));
            if measured.exists() {
                fs::copy(measured, recorded)?;
            }
        }
    }
    Ok(())
}

/// Whether any of `names` is measured: all are, unless `--targets` chooses.
fn wants(args: &[String], names: &[&str]) -> bool {
    chosen(args, "--targets")
        .is_none_or(|chosen| chosen.split(',').any(|target| names.contains(&target)))
}

/// The value of an option.
fn chosen<'a>(args: &'a [String], option: &str) -> Option<&'a str> {
    args.iter().enumerate().find_map(|(index, arg)| {
        let next = || args.get(index + 1).map(String::as_str);
        let value = arg.strip_prefix(option)?;
        value
            .strip_prefix('=')
            .or_else(|| value.is_empty().then(next).flatten())
    })
}

fn target(root: &Path) -> PathBuf {
    // A relative folder is relative to where cargo runs, which is the root.
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder))
}

fn build(root: &Path, package: &str) -> Result<(), Box<dyn Error>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    succeed(
        Command::new(cargo)
            .current_dir(root)
            .args(["build", "--release", "-p", package]),
    )
}

/// The nginx of this machine, or else Debian's package unpacked under `tools`: installing it would
/// start a service.
fn nginx(tools: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let unpacked = tools.join("nginx/usr/sbin/nginx");
    for known in [Path::new("nginx"), Path::new("/usr/sbin/nginx"), &unpacked] {
        if runs(known) {
            return Ok(known.to_owned());
        }
    }
    fs::create_dir_all(tools)?;
    if download(tools).is_err() {
        succeed(Command::new("apt-get").args(["update", "--quiet"]))?;
        download(tools)?;
    }
    for entry in fs::read_dir(tools)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            succeed(
                Command::new("dpkg-deb")
                    .arg("-x")
                    .arg(&file)
                    .arg(tools.join("nginx")),
            )?;
            fs::remove_file(file)?;
        }
    }
    if runs(&unpacked) {
        return Ok(unpacked);
    }
    Err("Debian's nginx does not run here: install nginx, or name one with --nginx FILE".into())
}

fn download(folder: &Path) -> Result<(), Box<dyn Error>> {
    succeed(
        Command::new("apt-get")
            .current_dir(folder)
            .args(["download", "--quiet", "nginx"]),
    )
}

fn runs(program: &Path) -> bool {
    Command::new(program)
        .arg("-v")
        .output()
        .is_ok_and(|output| output.status.success())
}

fn succeed(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .map_err(|error| format!("{name}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{name} ended with {status}").into())
    }
}

/// Targets for which the gateway is built.
const GATEWAYS: &[&str] = &[
    "pass",
    "inspect",
    "redis",
    "log",
    "log+redis",
    "untracked",
    "stdio",
    "upgrade",
    "downgrade",
];

/// What a run writes, and where it is kept. A run that measured nothing of a file writes none, and the last one
/// stays.
const RECORDED: &[(&str, &str)] = &[
    ("figures.md", "docs/src/figures.md"),
    ("figures.jsonl", "docs/figures.jsonl"),
    ("figures-library.md", "docs/src/figures-library.md"),
    ("figures-library.jsonl", "docs/figures-library.jsonl"),
    ("figures-bridges.md", "docs/src/figures-bridges.md"),
    ("figures-bridges.jsonl", "docs/figures-bridges.jsonl"),
    ("figures-nodes.md", "docs/src/figures-nodes.md"),
    ("figures-nodes.jsonl", "docs/figures-nodes.jsonl"),
    // In the crate, since a published crate can include nothing outside of itself.
    (
        "figures-http-sse.md",
        "crates/transport/src/migration/figures.md",
    ),
];
