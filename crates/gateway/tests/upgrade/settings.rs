//! Every setting of a server of 2026-07-28 acts (T2).

use serde_json::json;
use thinpipe_testkit::rpc;
use thinpipe_transport::mcp::LogLevel;

use crate::client::{Binding, Caller};
use crate::front::Front;

/// `log_level`: what is asked for until a client has set a level (protocol notes 5.3, `logging/setLevel`).
#[tokio::test]
async fn a_level_may_be_set_before_clients_do() {
    let front = Front::with(|spec| spec.bridge.log_level = Some(LogLevel::Error), |_| {}).await;
    let mut caller = Caller::begin(&front, Binding::Streamable).await;
    let mut asked = caller.ask(rpc::call(1, "log")).await;
    let line = caller.next(&mut asked).await;
    assert_eq!(line["params"]["data"], "a line of error", "{line}");
    assert_eq!(caller.next(&mut asked).await["id"], 1);
    let request = front.upstream.nth("tools/call:log", 0).await;
    let level =
        |request: &thinpipe_testkit::Request| request.param("/_meta").get(rpc::LOG_LEVEL).cloned();
    assert_eq!(level(&request), Some(json!("error")));

    caller
        .result(2, "logging/setLevel", json!({"level": "debug"}))
        .await;
    let mut asked = caller.ask(rpc::call(3, "log")).await;
    while caller.next(&mut asked).await["id"] != 3 {}
    let request = front.upstream.nth("tools/call:log", 1).await;
    assert_eq!(level(&request), Some(json!("debug")));
}
