//! What clients of each transport will get of a server through the gateway. Pure.

use serde_json::Value;
use thinpipe_gateway::BridgeConfig;
use thinpipe_proto::revision::{Binding, Revision};

use super::observation::{Identity, Observations, Stream, Transport};
use crate::crossing::{Client, Crossing, Features, Lost, Server, Way};

/// What clients of one transport get.
pub(crate) struct Served {
    pub(crate) client: Client,
    pub(crate) way: Way,
    /// What does not come through.
    pub(crate) lost: Vec<&'static Lost>,
}

/// For each transport of clients; nothing of a server that cannot be used. The gateway is thought of with
/// its defaults, and without tokens.
pub(crate) fn clients(seen: &Observations) -> Vec<Served> {
    let Ok(identity) = &seen.identity else {
        return Vec::new();
    };
    let speaks = servers(identity);
    let features = features(seen);
    let bridge = BridgeConfig::default();
    let served = Client::ALL.into_iter().filter_map(|client| {
        let crossing = Crossing {
            client,
            server: client.reaches(&speaks)?,
            features,
            bridge: &bridge,
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

fn servers(identity: &Identity) -> Vec<Server> {
    if !identity.bindings.is_empty() {
        let servers = identity.bindings.iter().map(|binding| match binding {
            Binding::HttpSse => Server::HttpSse,
            Binding::Sessions => Server::Sessions,
            Binding::Stateless => Server::Stateless,
        });
        return servers.collect();
    }
    let is_modern = |revision: &Revision| revision.is_modern();
    let modern = identity.revisions.iter().any(is_modern);
    vec![match modern {
        true => Server::ModernProgram,
        false => Server::LegacyProgram,
    }]
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
            || extensions.is_some_and(|it| it["io.modelcontextprotocol/tasks"].is_object()),
        changes: lists.iter().any(|list| says(list, "listChanged"))
            || says("resources", "subscribe"),
        stream,
    }
}
