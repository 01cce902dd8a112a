//! Builds the fuzz targets for libFuzzer and runs them.
//!
//! This needs neither a nightly compiler nor cargo-fuzz: the coverage instrumentation that libFuzzer
//! lives on is an LLVM pass, which the stable compiler runs when told to. There is no address
//! sanitizer, which would need a standard library built for it; the code under test has no `unsafe`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The names of all targets: the binaries of the package in `fuzz/`.
const TARGETS: [&str; 7] = [
    "sse_decode",
    "sse_scan",
    "envelope",
    "header",
    "eras",
    "bridge_ops",
    "tunnel",
];

/// What LLVM adds to the code: counters for edges, and the operands of comparisons.
const FLAGS: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Clto=off",
];

/// Megabytes that a target may use, and that one allocation of it may take.
const MEMORY: [&str; 2] = ["-rss_limit_mb=2048", "-malloc_limit_mb=256"];

/// Longest input, in bytes. Checks that go byte by byte get slow with longer ones.
const MAX_LENGTH: &str = "-max_len=4096";

/// Runs each target (or only the named one) for so many seconds, from the committed corpus and what
/// earlier runs found, which is kept in the target folder.
///
/// # Errors
/// An unknown target, a failed build, or a target that found something: the input that shows it then
/// lies in `fuzz/artifacts/<target>/`.
pub(crate) fn run(seconds: u64, target: Option<&str>) -> Result<()> {
    let targets: Vec<&str> = match target {
        None => TARGETS.to_vec(),
        Some(name) if TARGETS.contains(&name) => vec![name],
        Some(name) => {
            return Err(
                format!("no fuzz target {name:?}; there are {}", TARGETS.join(", ")).into(),
            );
        }
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or("xtask has no parent folder")?;
    let fuzz = root.join("fuzz");
    let output = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let output = output.join("fuzz");
    let programs = build(&fuzz, &output)?;
    let mut failed = Vec::new();
    for target in targets {
        let found = output.join("found").join(target);
        let artifacts = fuzz.join("artifacts").join(target);
        fs::create_dir_all(&found)?;
        fs::create_dir_all(&artifacts)?;
        println!("fuzzing {target} for {seconds} s");
        let status = Command::new(programs.join(target))
            // New inputs go to the first folder; the committed corpus is only read.
            .args([&found, &fuzz.join("corpus").join(target)])
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args(MEMORY)
            .args([
                MAX_LENGTH,
                "-timeout=10",
                "-print_final_stats=1",
                "-verbosity=1",
            ])
            .status()?;
        if !status.success() {
            failed.push(target);
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("found something: {}; see fuzz/artifacts", failed.join(", ")).into())
    }
}

/// Builds all targets and returns the folder they are in.
fn build(fuzz: &Path, output: &Path) -> Result<PathBuf> {
    let host = host()?;
    // With a target named, the flags do not reach build scripts and macros.
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--release",
            "--bins",
            "--target",
            &host,
            "--manifest-path",
        ])
        .arg(fuzz.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(output)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .env_remove("RUSTFLAGS")
        .status()?;
    if !status.success() {
        return Err("the fuzz targets do not build".into());
    }
    Ok(output.join(host).join("release"))
}

/// The platform of the compiler, such as `x86_64-unknown-linux-gnu`.
fn host() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("-vV").output()?;
    let version = String::from_utf8(version.stdout)?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("rustc does not name its host")?.to_owned())
}
