//! Where the upstream session of a request comes from.

use bytes::Bytes;
use thinpipe_proto::bridge::capabilities::{Carried, Declared, fingerprint};
use thinpipe_proto::bridge::downgrade::{Channel, Lifetime};
use thinpipe_proto::rpc::{Message, MessageError, meta_key};
use thinpipe_proto::session::Principal;

use crate::config::{BridgeConfig, Mrtr, RequestSession};

/// What a session that everybody shares declares where each answer comes with its request.
const SHARED: &[u8] = br#"{"sampling":{},"elicitation":{"form":{},"url":{}}}"#;

/// Which upstream session a request may run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) lifetime: Lifetime,
    /// How the server's messages come.
    pub(crate) channel: Channel,
    /// Whose sessions; anybody's where all share one.
    pub(crate) holder: Option<Principal>,
    /// The client capabilities that are declared to the server.
    pub(crate) declared: Bytes,
    /// Any session of its holder will do, whatever that declares.
    pub(crate) is_any: bool,
}

impl Place {
    /// Of a request, as the upstream is configured and its messages come.
    ///
    /// # Errors
    /// [`MessageError`]: what the request declares cannot be read.
    pub(crate) fn of(
        request: &Message,
        principal: &Principal,
        bridge: &BridgeConfig,
        channel: Channel,
    ) -> Result<Self, MessageError> {
        let named = matches!(principal, Principal::Named(_));
        let lifetime = match bridge.request_session(named) {
            RequestSession::Own => Lifetime::PerRequest,
            RequestSession::Pooled => Lifetime::Pooled,
            RequestSession::Shared => Lifetime::Shared,
        };
        let is_any = request.method() == Some("server/discover");
        let rounds = bridge.mrtr == Mrtr::On;
        if lifetime == Lifetime::Shared {
            let asks = rounds && channel == Channel::Streams;
            return Ok(Self {
                lifetime,
                channel,
                holder: None,
                declared: Bytes::from_static(if asks { SHARED } else { b"{}" }),
                is_any,
            });
        }
        let declared = match request.meta(meta_key::CLIENT_CAPABILITIES) {
            Some(declared) => Declared::parse(&declared)?,
            None => Declared::nothing(),
        };
        let carried = Carried {
            rounds,
            roots: lifetime == Lifetime::PerRequest || bridge.pool.roots,
        };
        let declared = declared.to_legacy(carried);
        Ok(Self {
            lifetime,
            channel,
            holder: Some(principal.clone()),
            // In one way, as it is part of a key.
            declared: fingerprint(&declared)?,
            is_any,
        })
    }
}

impl Place {
    /// Whether requests of several clients may run on such a session: who has no name may be anybody.
    pub(crate) fn is_of_many(&self) -> bool {
        let is_named = matches!(self.holder, Some(Principal::Named(_)));
        self.lifetime != Lifetime::PerRequest && !is_named
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sharing;

    fn place(capabilities: &str, principal: &Principal, bridge: &BridgeConfig) -> Place {
        let key = meta_key::CLIENT_CAPABILITIES;
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"_meta":{{"{key}":{capabilities}}}}}}}"#
        );
        let request = Message::parse(text.into()).unwrap();
        Place::of(&request, principal, bridge, Channel::Streams).unwrap()
    }

    fn named(name: &str) -> Principal {
        Principal::Named(name.into())
    }

    /// R230, R231, R236: who declares the same in other words runs on the same sessions; another
    /// principal, or who declares something else, does not.
    #[test]
    fn r230_the_key_is_principal_and_capabilities() {
        let bridge = BridgeConfig::default();
        let one = place(r#"{"elicitation":{},"sampling":{}}"#, &named("a"), &bridge);
        let same = r#"{ "sampling": {}, "elicitation": {"form":{}}, "roots": {} }"#;
        assert_eq!(one, place(same, &named("a"), &bridge));
        assert_ne!(one, place(same, &named("b"), &bridge));
        assert_ne!(one, place(r#"{"sampling":{}}"#, &named("a"), &bridge));
        assert_eq!(one.lifetime, Lifetime::Pooled);
        assert_eq!(
            place("{}", &Principal::Anonymous, &bridge).lifetime,
            Lifetime::PerRequest
        );
    }

    /// Roots outlive a call: they are declared where the session does not, or when told so.
    #[test]
    fn roots_are_declared_where_they_can_be() {
        let roots = r#"{"roots":{}}"#;
        let mut bridge = BridgeConfig::default();
        assert_eq!(place(roots, &named("a"), &bridge).declared, "{}");
        assert_eq!(place(roots, &Principal::Anonymous, &bridge).declared, roots);
        bridge.pool.roots = true;
        assert_eq!(place(roots, &named("a"), &bridge).declared, roots);
    }

    /// 5.4.2: `mrtr = "off"` declares nothing that a server could ask for.
    #[test]
    fn mrtr_off_declares_nothing() {
        let all = r#"{"roots":{},"sampling":{},"elicitation":{}}"#;
        let mut bridge = BridgeConfig {
            mrtr: Mrtr::Off,
            ..BridgeConfig::default()
        };
        assert_eq!(place(all, &named("a"), &bridge).declared, "{}");
        assert_eq!(place(all, &Principal::Anonymous, &bridge).declared, "{}");
        bridge.sessions = Some(Sharing::Shared);
        assert_eq!(place(all, &named("a"), &bridge).declared, "{}");
    }

    /// 5.2.1: one session for all, on which only what comes with its request can be asked.
    #[test]
    fn shared_sessions_have_one_place() {
        let bridge = BridgeConfig {
            sessions: Some(Sharing::Shared),
            ..BridgeConfig::default()
        };
        let one = place(r#"{"roots":{}}"#, &named("a"), &bridge);
        assert_eq!(one, place("{}", &Principal::Anonymous, &bridge));
        assert_eq!(one.declared, SHARED);
    }
}
