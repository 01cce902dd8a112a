use thinpipe_proto::session::Principal;

use super::*;
use crate::mcp::{ServerInfo, Tools};
use crate::server::ServerConfig;

/// R065: what asks for nothing opens no session, and no answer to it is made up.
#[tokio::test]
async fn r065_an_initialize_without_id_opens_nothing() {
    let tools = Tools::new(ServerInfo::new("test", "1"));
    let service = Service::new(tools, &HttpTransportConfig::default());
    let server = Server::builder(ServerConfig::default()).build();
    let owner: Arc<dyn Handler> = Arc::<Service<Tools>>::clone(&service);
    let slot = server
        .sessions()
        .reserve(owner, "mcp".into(), Principal::Anonymous);
    let text = r#"{"jsonrpc":"2.0","method":"initialize","params":{}}"#;
    let message = Message::parse(Bytes::from_static(text.as_bytes())).unwrap();
    let answer = service.initialize(&message, slot.await.unwrap()).await;
    assert_eq!(
        (answer.status, answer.session),
        (StatusCode::BAD_REQUEST, None)
    );
    assert!(server.sessions().list().is_empty());
}
