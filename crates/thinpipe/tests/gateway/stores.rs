//! A store that cannot be used, as its user sees it.

use std::path::Path;

use thinpipe_testkit::{Client, Process, Redis, Upstream};

use crate::support::{File, Gateway};

/// F14, A13, trap 26: what keeps a store from being used is said with what to do, by `check` and at the start, and no password.
#[tokio::test]
async fn f14_what_is_wrong_with_a_store_is_said() {
    let redis = Redis::start().await;
    for (name, value) in [
        ("maxmemory", "100mb"),
        ("maxmemory-policy", "allkeys-lru"),
        ("requirepass", "right-hunter2"),
    ] {
        redis.command(&["CONFIG", "SET", name, value]).await;
    }
    let text = |password: &str| {
        let (port, url) = (redis.port(), "http://127.0.0.1:9/mcp");
        format!(
            "store = \"redis://:{password}@127.0.0.1:{port}\"\n[[upstreams]]\nurl = \"{url}\"\n"
        )
    };
    let check = async |text: &str| {
        let file = File::new(text);
        let arguments = [Path::new("check"), &file.path];
        let mut process = Process::start(env!("CARGO_BIN_EXE_thinpipe"), arguments);
        assert!(process.wait().await.success());
        process.lines_to_end().await.join("\n")
    };
    let said = check(&text("wrong-hunter2")).await;
    let refused = "it refuses the user or the password";
    assert!(
        said.contains("cannot be used from here") && said.contains(refused),
        "{said}"
    );
    assert!(said.contains("`store.password_file`"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    let said = check(&text("right-hunter2")).await;
    let place = format!("the store redis://127.0.0.1:{} is reached", redis.port());
    assert!(said.contains(&place) && !said.contains("hunter2"), "{said}");
    let complaint = "its maxmemory-policy is allkeys-lru; set it to noeviction";
    assert!(said.contains(complaint), "{said}");

    let none = text("right-hunter2").replace("\"\n[[", "/99\"\n[[");
    let said = check(&none).await;
    assert!(
        said.contains("DB index is out of range; the number of its database stands behind"),
        "{said}"
    );

    // Something that speaks HTTP, and a Redis that is taken for one with TLS.
    let other = Upstream::start().await;
    let address = Client::new(other.url()).address();
    let place = |url: &str| {
        format!(
            "[store]\nurl = \"{url}\"\noperation_timeout = \"100ms\"\n[[upstreams]]\nurl = \"http://127.0.0.1:9/mcp\"\n"
        )
    };
    let said = check(&place(&format!("redis://{address}"))).await;
    assert!(
        said.contains(": what answers there is no Redis: "),
        "{said}"
    );
    let said = check(&place(&format!("rediss://127.0.0.1:{}", redis.port()))).await;
    assert!(
        said.contains("did not answer within 100ms; does it speak TLS?"),
        "{said}"
    );

    let gateway = Gateway::with_file(&text("wrong-hunter2")).await;
    let said = gateway.process.line_with("the store redis://").await;
    assert!(said.contains(refused), "{said}");
    let said = gateway.process.lines().join("\n");
    assert!(!said.contains("hunter2"), "{said}");
}
