//! What is stored with a session's record.

use bytes::Bytes;
use thinpipe_gateway::UpstreamSpec;
use thinpipe_testkit::{Upstream, rpc};
use thinpipe_transport::upstream::UpstreamConfig;

use crate::front::Front;

/// F5, F13: the record holds the server's id in a form with a version. A session whose record holds something
/// else does not exist, and nothing of it reaches the server.
#[tokio::test]
async fn f13_a_session_whose_attachment_cannot_be_read_is_gone() {
    let upstream = Upstream::start().await;
    let at = UpstreamConfig::new("up".into(), upstream.url().parse().unwrap());
    let front = Front::start(UpstreamSpec::new("/mcp", at)).await;
    let client = front.client().await;
    let sessions = front.server.sessions();
    let session = sessions.list().pop().unwrap();
    let id = upstream.sessions().pop().unwrap();
    let stored = format!(r#"{{"v":1,"session":"{id}"}}"#);
    assert_eq!(session.attachment(), stored);
    assert_eq!(client.post(rpc::call(1, "echo")).await.status, 200);

    let bare = Bytes::from(id);
    sessions.set_attachment(&session, bare).await.unwrap();
    let before = upstream.record().received.len();
    let mut refused = client.post(rpc::call(2, "echo")).await;
    assert_eq!(refused.status, 404);
    assert_eq!(
        refused.json().await["error"]["data"]["reason"],
        "session_not_found"
    );
    assert_eq!(client.get().await.status, 404);
    assert_eq!(upstream.record().received.len(), before);
    assert!(session.is_ended());
}
