//! The revisions that a server of 2026-07-28 names, as this endpoint serves them (K5; protocol notes 1.2, and 5.5,
//! rows "discover" and "version").

use bytes::Bytes;
use thinpipe_proto::bridge::shape::error_code;
use thinpipe_proto::classify::Served;
use thinpipe_proto::revision::Revision;
use thinpipe_proto::rpc::{Message, code, elements, member, splice, string};

/// A response in which it names what this endpoint does: of the revisions without sessions those that both
/// sides do; those with sessions, which reach such a server bridged, whether it does them or not. The list is
/// thus that of the gateway's own refusals. `None`: it names no revisions, or just these.
pub(super) fn narrowed(message: &Message, served: Served) -> Option<Bytes> {
    let named = match (message.result(), message.error()) {
        (Some(result), _) => member(&result, "supportedVersions"),
        (None, Some(error)) if error_code(&error) == Some(code::UNSUPPORTED_VERSION) => {
            member(&member(&error, "data")?, "supported")
        }
        _ => None,
    }?;
    let all = elements(&named).ok()?;
    let all: Vec<_> = all.iter().map(|version| string(version)).collect();
    let is_named = |revision: &Revision| all.iter().flatten().any(|text| text == revision.as_str());
    let served = served.revisions();
    let both: Vec<_> = served
        .iter()
        .filter(|served| served.is_modern() && is_named(served))
        .collect();
    // What has none in common with the gateway is reached by nobody.
    let bridged = served
        .iter()
        .filter(|served| !both.is_empty() && !served.is_modern());
    let kept: Vec<_> = both
        .iter()
        .copied()
        .chain(bridged)
        .map(|served| served.as_str())
        .collect();
    if all
        .iter()
        .map(Option::as_deref)
        .eq(kept.iter().copied().map(Some))
    {
        return None;
    }
    let quoted: Vec<_> = kept.iter().map(|text| format!("\"{text}\"")).collect();
    splice(
        message.source(),
        &named,
        format!("[{}]", quoted.join(",")).as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrow(text: &'static str, served: Served) -> Option<String> {
        let message = Message::parse(Bytes::from_static(text.as_bytes())).unwrap();
        let narrowed = narrowed(&message, served)?;
        Some(String::from_utf8(narrowed.to_vec()).unwrap())
    }

    const MODERN: Served = Served {
        legacy: false,
        modern: true,
    };

    /// K5: what only one side does is not offered.
    #[test]
    fn k5_a_description_names_what_both_sides_do() {
        let result = r#"{"jsonrpc":"2.0","id":1,"result":{"supportedVersions": ["2030-01-01","2026-07-28","2025-11-25",7],"x":1.0}}"#;
        let expected =
            r#"{"jsonrpc":"2.0","id":1,"result":{"supportedVersions": ["2026-07-28"],"x":1.0}}"#;
        assert_eq!(narrow(result, MODERN).as_deref(), Some(expected));
        assert_eq!(narrow(expected, MODERN), None);
    }

    /// K5, 1.2: revisions with sessions are served here, whether the server knows them or not.
    #[test]
    fn k5_a_description_names_what_is_bridged() {
        let expected = r#"{"jsonrpc":"2.0","id":1,"result":{"supportedVersions":["2026-07-28","2025-11-25","2025-06-18","2025-03-26","2024-11-05"]}}"#;
        for named in [r#""2026-07-28""#, r#""2025-03-26","2026-07-28""#] {
            let text =
                format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"supportedVersions":[{named}]}}}}"#);
            let narrowed = narrow(Box::leak(text.into_boxed_str()), Served::ALL);
            assert_eq!(narrowed.as_deref(), Some(expected));
        }
        assert_eq!(narrow(expected, Served::ALL), None);
    }

    /// K5: a refusal names the same, even if that is nothing.
    #[test]
    fn k5_a_refusal_names_what_both_sides_do() {
        let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"m","data":{"supported":["2030-01-01"],"requested":"x"}}}"#;
        let expected = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"m","data":{"supported":[],"requested":"x"}}}"#;
        assert_eq!(narrow(error, Served::ALL).as_deref(), Some(expected));
        let other = error.replace("-32022", "-32602");
        assert_eq!(narrow(Box::leak(other.into_boxed_str()), Served::ALL), None);
    }
}
