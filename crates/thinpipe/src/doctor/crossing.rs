//! What clients of each transport will get of a server through the gateway. Pure.

use serde_json::Value;
use thinpipe_gateway::{BridgeConfig, ProgramEra, Resume};
use thinpipe_proto::bridge::capabilities::TASKS_EXTENSION;
use thinpipe_proto::revision::Binding;

use super::observation::{Identity, Observations, Stream, Transport};
use super::pin::Pin;
use crate::crossing::{Client, Crossing, Features, Lost, Server, Way};

/// What clients of one transport get.
pub(crate) struct Served {
    pub(crate) client: Client,
    pub(crate) way: Way,
    /// What does not come through.
    pub(crate) lost: Vec<&'static Lost>,
}

/// For each transport of clients; nothing of a server that cannot be used. The gateway is thought of with
/// this pin and else its defaults, and without tokens.
pub(crate) fn clients(seen: &Observations, pin: Option<Pin>) -> Vec<Served> {
    let Ok(identity) = &seen.identity else {
        return Vec::new();
    };
    let speaks = match pin {
        Some(pin) => vec![pin.server],
        None => servers(identity),
    };
    let features = features(seen);
    let bridge = BridgeConfig::default();
    let served = Client::ALL.into_iter().filter_map(|client| {
        let crossing = Crossing {
            client,
            server: client.reaches(&speaks)?,
            features,
            bridge: &bridge,
            resume: Resume::default(),
            has_principals: false,
        };
        Some(Served {
            client,
            way: crossing.way(),
            lost: crossing.lost(),
        })
    });
    served.collect()
}

/// What it speaks.
pub(super) fn servers(identity: &Identity) -> Vec<Server> {
    if !identity.bindings.is_empty() {
        let servers = identity.bindings.iter().map(|binding| match binding {
            Binding::HttpSse => Server::HttpSse,
            Binding::Sessions => Server::Sessions,
            Binding::Stateless => Server::Stateless,
        });
        return servers.collect();
    }
    let servers = identity.eras.iter().map(|era| match era {
        ProgramEra::Legacy => Server::LegacyProgram,
        ProgramEra::Modern => Server::ModernProgram,
    });
    servers.collect()
}

fn features(seen: &Observations) -> Features {
    let declared = &seen.capabilities;
    let says = |capability: &str, flag: &str| {
        let capability = declared.get(capability);
        capability.is_some_and(|it| it[flag] == Value::Bool(true))
    };
    let lists = ["tools", "prompts", "resources"];
    let extensions = declared.get("extensions");
    let stream = match &seen.transport {
        Transport::Streamable {
            sessions: Some(sessions),
            ..
        } => !matches!(sessions.stream, Stream::Refused(405)),
        _ => true,
    };
    Features {
        tools: declared.contains_key("tools"),
        logging: declared.contains_key("logging"),
        tasks: declared.contains_key("tasks")
            || extensions.is_some_and(|it| it[TASKS_EXTENSION].is_object()),
        changes: lists.iter().any(|list| says(list, "listChanged"))
            || says("resources", "subscribe"),
        stream,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use thinpipe_proto::revision::Revision;

    use super::super::observation::{Sessions, Unusable, Why};
    use super::*;

    fn seen(bindings: &[Binding], revision: Revision, capabilities: &Value) -> Observations {
        let mut seen = Observations {
            target: String::new(),
            identity: Ok(Identity {
                bindings: bindings.to_vec(),
                revisions: vec![revision],
                eras: match (bindings, revision.is_modern()) {
                    ([], true) => vec![ProgramEra::Modern],
                    ([], false) => vec![ProgramEra::Legacy],
                    _ => Vec::new(),
                },
                ..Identity::default()
            }),
            capabilities: serde_json::Map::new(),
            lists: Default::default(),
            transport: Transport::Unknown,
            successor: None,
            stderr: Vec::new(),
        };
        seen.note_capabilities(capabilities);
        seen
    }

    fn lost(seen: &Observations, client: Client) -> Vec<&'static str> {
        let served = clients(seen, None);
        let found = served.iter().find(|served| served.client == client);
        found.unwrap().lost.iter().map(|lost| lost.key).collect()
    }

    /// 5.1: a program is of the era that it answers in.
    #[test]
    fn programs_are_told_apart_by_their_revision() {
        for (revision, ways) in [
            (Revision::V2026_07_28, [Client::HttpSse, Client::Sessions]),
            (
                Revision::V2025_11_25,
                [Client::Stateless, Client::Stateless],
            ),
        ] {
            let seen = seen(&[], revision, &json!({ "tasks": {} }));
            for client in ways {
                assert!(
                    lost(&seen, client).contains(&"tasks"),
                    "{client} {revision}"
                );
            }
            let served = clients(&seen, None);
            assert!(served.iter().all(|served| served.way == Way::Bridged));
        }
    }

    /// What a server does not have cannot be missed.
    #[test]
    fn only_what_the_server_has_is_missed() {
        let revision = Revision::V2025_11_25;
        let bindings = [Binding::Sessions];
        let logging = json!({ "logging": {} });
        let line = "log-lines-without-a-request";
        let logs = seen(&bindings, revision, &logging);
        assert!(lost(&logs, Client::Stateless).contains(&line));
        let silent = seen(&bindings, revision, &json!({}));
        assert!(!lost(&silent, Client::Stateless).contains(&line));

        let changes = json!({ "tools": { "listChanged": true } });
        let mut seen = seen(&bindings, revision, &changes);
        let notices = "changes-without-a-stream";
        assert!(!lost(&seen, Client::Sessions).contains(&notices));
        seen.transport = Transport::Streamable {
            sessions: Some(Box::new(Sessions {
                stream: Stream::Refused(405),
                ..Sessions::default()
            })),
            stateless_get: None,
        };
        for client in Client::ALL {
            assert!(lost(&seen, client).contains(&notices), "{client}");
        }
    }

    #[test]
    fn nothing_is_promised_of_what_cannot_be_used() {
        let mut seen = seen(&[Binding::Sessions], Revision::V2025_11_25, &json!({}));
        seen.identity = Err(Unusable {
            why: Why::Unavailable,
            text: String::new(),
        });
        assert!(clients(&seen, None).is_empty());
    }
}
