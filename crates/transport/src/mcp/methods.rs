//! Which methods a server has, by what it declared and the revision.

use thinpipe_proto::classify::Served;
use thinpipe_proto::revision::Revision;

use super::RpcError;
use super::handler::ServerInfo;

/// Revisions that are spoken here, the newest first.
pub(super) fn revisions() -> Vec<&'static str> {
    let all = Served::ALL.revisions();
    all.into_iter().map(Revision::as_str).collect()
}

/// Whether there is such a method: it is in the revision, and the capability it belongs to is declared. What is
/// in no revision may be the handler's own.
///
/// # Errors
/// `-32601` (Method not found).
pub(super) fn check(info: &ServerInfo, revision: Revision, method: &str) -> Result<(), RpcError> {
    let modern = revision.is_modern();
    let has = match method {
        "ping" => !modern,
        "initialize" | "tasks/result" | "tasks/list" if modern => false,
        "server/discover" => modern,
        "subscriptions/listen" => modern && can_change(info),
        "logging/setLevel" => !modern && info.can("logging", None),
        "resources/subscribe" | "resources/unsubscribe" => {
            !modern && info.can("resources", Some("subscribe"))
        }
        "completion/complete" => info.can("completions", None),
        _ => match method.split_once('/') {
            Some((capability @ ("tools" | "prompts" | "resources"), _)) => {
                info.can(capability, None)
            }
            _ => true,
        },
    };
    has.then_some(())
        .ok_or_else(|| RpcError::method_not_found(method))
}

/// Whether there is anything to listen to.
fn can_change(info: &ServerInfo) -> bool {
    let changes = ["tools", "prompts", "resources"];
    let listed = changes
        .into_iter()
        .any(|what| info.can(what, Some("listChanged")));
    listed || info.can("resources", Some("subscribe"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// R128, R154
    #[test]
    fn r154_only_what_is_declared_and_in_the_revision_is_there() {
        let info = ServerInfo::new("s", "1")
            .capability("tools", json!({}))
            .capability("resources", json!({ "subscribe": true }));
        let has = |revision, method| check(&info, revision, method).is_ok();
        let (modern, legacy) = (Revision::V2026_07_28, Revision::V2025_11_25);
        for (method, in_modern, in_legacy) in [
            ("tools/list", true, true),
            ("prompts/list", false, false),
            ("completion/complete", false, false),
            ("ping", false, true),
            ("server/discover", true, false),
            ("subscriptions/listen", true, false),
            ("logging/setLevel", false, false),
            ("resources/subscribe", false, true),
            ("tasks/list", false, true),
            ("acme/own", true, true),
        ] {
            assert_eq!(has(modern, method), in_modern, "{method}");
            assert_eq!(has(legacy, method), in_legacy, "{method}");
        }
        let silent = ServerInfo::new("s", "1").capability("tools", json!({}));
        assert!(check(&silent, modern, "subscriptions/listen").is_err());
    }
}
