//! Interceptors in front of what is kept.

use serde_json::json;
use thinpipe_gateway::UpstreamSpec;
use thinpipe_gateway::interceptor::{AccessConfig, InterceptorConfig, NameList};

use super::{Front, nothing, tools};

/// Bob must not see `echo`.
fn hide(spec: &mut UpstreamSpec) {
    let access = AccessConfig {
        principals: vec!["bob".to_owned()],
        tools: NameList {
            deny: vec!["echo".to_owned()],
            ..NameList::default()
        },
        ..AccessConfig::default()
    };
    spec.interceptors.push(InterceptorConfig::Access(access));
}

/// Protocol notes 4.4: each sees of a list for everybody what is for him, though the server was asked once;
/// and nobody is told that his part of it is for everybody.
#[tokio::test]
async fn a_public_list_that_interceptors_filter_is_private() {
    let front = Front::with("public", &["ann", "bob"], hide).await;
    for _ in 0..2 {
        let ann = front.ask_as("ann", "tools/list", nothing()).await;
        let bob = front.ask_as("bob", "tools/list", nothing()).await;
        assert!(tools(&ann).contains(&"echo"));
        assert!(!tools(&bob).contains(&"echo") && tools(&bob).contains(&"region"));
        for answer in [ann, bob] {
            assert_eq!(answer["result"]["cacheScope"], "private");
        }
    }
    assert_eq!(front.asked("tools/list"), 1);
}

/// What is denied is not given from here either.
#[tokio::test]
async fn what_is_denied_is_not_given_from_what_is_kept() {
    let deny = |spec: &mut UpstreamSpec| {
        let access = AccessConfig {
            principals: vec!["bob".to_owned()],
            methods: NameList {
                deny: vec!["resources/read".to_owned()],
                ..NameList::default()
            },
            ..AccessConfig::default()
        };
        spec.interceptors.push(InterceptorConfig::Access(access));
    };
    let front = Front::with("public", &["ann", "bob"], deny).await;
    let params = json!({"uri": "file:///a"});
    let ann = front.ask_as("ann", "resources/read", params.clone()).await;
    assert_eq!(ann["result"]["contents"][0]["uri"], "file:///a");
    let bob = front.ask_as("bob", "resources/read", params).await;
    assert_eq!(bob["error"]["code"], -32601);
}
