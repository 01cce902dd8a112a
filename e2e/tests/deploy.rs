//! The files in `deploy/` are what the tools that read them take, and what the gateway takes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use thinpipe_e2e::peers::{gateway, python_program};

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name)
}

fn assert_passes(command: &mut Command) {
    let output = command.output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{complained}");
}

/// The gateway's own file inside of the manifest.
fn config_in_manifest() -> String {
    let manifest = fs::read_to_string(deploy("kubernetes.yaml")).expect("the manifest");
    let (_, rest) = manifest.split_once("thinpipe.toml: |\n").expect("a file");
    let (file, _) = rest.split_once("---").expect("an end");
    file.lines()
        .map(|line| line.trim_start().to_owned() + "\n")
        .collect()
}

#[test]
fn the_compose_file_keeps_to_the_compose_specification() {
    let mut validate = python_program("check-jsonschema");
    validate.args(["--builtin-schema", "vendor.compose-spec"]);
    assert_passes(validate.arg(deploy("compose.yaml")));
}

#[test]
fn the_manifest_keeps_to_the_schemas_of_kubernetes() {
    let mut validate = python_program("kubernetes-validate");
    assert_passes(validate.arg("--strict").arg(deploy("kubernetes.yaml")));
}

#[test]
fn the_gateway_takes_its_files() {
    let check = |file: PathBuf| {
        let mut gateway = gateway();
        gateway.env("REDIS_PASSWORD", "secret").arg("check");
        assert_passes(gateway.arg(file));
    };
    check(deploy("thinpipe.toml"));
    let folder = thinpipe_e2e::peers::results();
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("kubernetes-thinpipe.toml");
    fs::write(&file, config_in_manifest()).expect("a file");
    check(file);
}

/// What the image is built from is all that cargo wants to see, tests of crates included.
#[test]
fn the_image_is_built_from_whole_crates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let listed = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(&root).arg("ls-files").args(arguments);
        let output = git.output().expect("the sources are a clone");
        let text = String::from_utf8(output.stdout).expect("file names are text");
        text.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    // Its rules are those of git, for the patterns that are there.
    let left_out = listed(&["--cached", "--ignored", "--exclude-from=.dockerignore"]);
    assert!(!left_out.is_empty());
    let folder = thinpipe_e2e::peers::results().join("image");
    // It may be there from an earlier run.
    let _ = fs::remove_dir_all(&folder);
    for file in listed(&["--cached"]).difference(&left_out) {
        let (from, to) = (root.join(file), folder.join(file));
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(from, to).expect("a copy");
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(&folder)
        .args(["metadata", "--locked", "--offline"]);
    assert_passes(cargo.args(["--format-version", "1"]));
    fs::remove_dir_all(&folder).expect("it is removed");
}
