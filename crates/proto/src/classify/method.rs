//! What is known of methods by their names.

/// Methods of clients' requests, of any revision; the most frequent first.
pub const CLIENT_REQUESTS: [&str; 20] = [
    "tools/call",
    "tools/list",
    "ping",
    "initialize",
    "resources/read",
    "resources/list",
    "resources/templates/list",
    "resources/subscribe",
    "resources/unsubscribe",
    "prompts/get",
    "prompts/list",
    "completion/complete",
    "logging/setLevel",
    "server/discover",
    "subscriptions/listen",
    "tasks/get",
    "tasks/result",
    "tasks/list",
    "tasks/cancel",
    "tasks/update",
];

/// Methods of clients' notifications, of any revision.
pub const CLIENT_NOTIFICATIONS: [&str; 4] = [
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
];

/// Methods of servers' requests, of any revision.
pub const SERVER_REQUESTS: [&str; 8] = [
    "ping",
    "sampling/createMessage",
    "elicitation/create",
    "roots/list",
    "tasks/get",
    "tasks/result",
    "tasks/list",
    "tasks/cancel",
];

/// Whether complete results carry `ttlMs` and `cacheScope` (2026-07-28; protocol notes 2.3.5).
#[must_use]
pub fn is_cacheable_method(method: &str) -> bool {
    matches!(
        method,
        "server/discover"
            | "tools/list"
            | "prompts/list"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
    )
}

/// Whether a request only reads, so that sending it twice does no harm.
#[must_use]
pub fn is_read_only_method(method: &str) -> bool {
    is_cacheable_method(method)
        || matches!(
            method,
            "prompts/get" | "completion/complete" | "ping" | "tasks/get" | "tasks/list"
        )
}

/// The member of `params` that `Mcp-Name` repeats, for the methods that have the header: those that
/// name a tool, prompt or resource, and those of the tasks extension.
#[must_use]
pub fn mirrored_param(method: &str) -> Option<&'static str> {
    match method {
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => name_param(method),
    }
}

/// The member of `params` that names a tool, prompt or resource.
#[must_use]
pub fn name_param(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        _ => None,
    }
}
