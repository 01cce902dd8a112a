//! What real servers do that a gateway must not trip over, through the program as its users run it,
//! unread and inspected.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use thinpipe_testkit::{Era, Process, Upstream, scenarios};

/// Runs a scenario unread, then inspected.
macro_rules! both {
    ($module:ident::$scenario:ident) => {
        both!($module::$scenario, Era::Both)
    };
    ($module:ident::$scenario:ident, $era:expr) => {
        for inspected in [false, true] {
            let upstream = Upstream::start().await;
            upstream.set(|behaviour| behaviour.era = $era);
            let (url, _running) = gateway(&upstream, inspected).await;
            scenarios::$module::$scenario(&url, &upstream).await;
        }
    };
}

/// G1, R112, R115
#[tokio::test]
async fn r115_ids_of_any_text_resume_a_stream() {
    both!(resume::ids_of_any_text_resume_a_stream);
}

/// G3, R112
#[tokio::test]
async fn r112_ids_no_header_can_carry_pass() {
    both!(resume::ids_no_header_can_carry_pass);
}

/// B14, R020
#[tokio::test]
async fn b14_sessions_that_discovery_does_not_list_are_served() {
    both!(sessions::sessions_that_discovery_does_not_list_are_served);
}

/// B14
#[tokio::test]
async fn b14_r216_a_server_without_sessions_is_bridged() {
    both!(sessions::server_without_sessions_is_bridged, Era::Stateless);
}

async fn gateway(upstream: &Upstream, inspected: bool) -> (String, Process) {
    let reads = if inspected { READS } else { "" };
    let url = upstream.url();
    let text = format!(
        "listen = \"127.0.0.1:0\"\nadmin = \"off\"\n[[upstreams]]\nurl = \"{url}\"\n{reads}",
    );
    // No two upstreams of one time have the same port.
    let port = url.replace(|c: char| !c.is_ascii_digit(), "");
    let file = format!("{}/compat-{port}.toml", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&file, text).expect("the target folder can be written to");
    let program = env!("CARGO_BIN_EXE_thinpipe");
    let process = Process::start(program, ["serve", "--config", &file]);
    let url = process.word_after("listening on ").await;
    (url, process)
}

const READS: &str = "[[upstreams.interceptors]]\ntype = \"log\"\nlevel = \"trace\"\n";
