//! The inputs that fuzzing started from and found, through the checks of the fuzz targets.

use std::fs;
use std::path::Path;

use thinpipe_fuzz_checks::{bridge_ops, envelope, eras, header, sse_decode, sse_scan, tunnel};

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is committed") {
        let path = entry.expect("a readable folder").path();
        println!(
            "{target}/{}",
            path.file_name().unwrap_or_default().display()
        );
        check(&fs::read(&path).expect("a readable file"));
        count += 1;
    }
    assert!(count >= 10, "{target} has {count} inputs only");
}

/// D1, R160 to R171.
#[test]
fn d1_corpus_of_sse_decode() {
    replay("sse_decode", sse_decode::check);
}

/// D1, R160 to R171.
#[test]
fn d1_corpus_of_sse_scan() {
    replay("sse_scan", sse_scan::check);
}

#[test]
fn corpus_of_envelope() {
    replay("envelope", envelope::check);
}

#[test]
fn corpus_of_header() {
    replay("header", header::check);
}

/// R217, R230, R232: and R140.
#[test]
fn r217_corpus_of_eras() {
    replay("eras", eras::check);
}

/// R249, R250.
#[test]
fn r249_corpus_of_bridge_ops() {
    replay("bridge_ops", bridge_ops::check);
}

/// F8.
#[test]
fn f8_corpus_of_tunnel() {
    replay("tunnel", tunnel::check);
}
