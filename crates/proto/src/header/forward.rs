//! Which headers pass from one side to the other (protocol notes 4.2).

use http::HeaderName;

/// Whether a header is hop-by-hop by its name (RFC 9110 7.6.1). Names listed in `Connection` are
/// the caller's duty.
#[must_use]
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Whether a client's header may go to an upstream as it is: end-to-end headers do, unless they
/// carry credentials, are about this connection, or are written anew for each upstream.
///
/// `Accept` and `Content-Type` pass; a caller that sets its own replaces them. `Mcp-Method` and
/// `Mcp-Name` do not, as only one binding has them: the caller adds them again. `Mcp-Param-*` passes
/// (K3). Names listed in `Connection` are the caller's duty.
#[must_use]
pub fn forwardable_request_header(name: &HeaderName) -> bool {
    let text = name.as_str();
    let refused = matches!(
        text,
        // Written anew.
        "host" | "content-length" | "expect" | "accept-encoding"
            | "mcp-session-id" | "mcp-protocol-version" | "mcp-method" | "mcp-name"
            | "last-event-id"
            // Credentials: the upstream has its own.
            | "authorization" | "cookie" | "cookie2" | "x-api-key" | "api-key" | "x-auth-token"
            | "x-access-token" | "x-goog-api-key" | "x-amz-security-token"
            // About the connection; what a client says of itself here is not to be believed.
            | "origin" | "forwarded" | "via" | "x-real-ip" | "x-client-ip" | "true-client-ip"
    );
    let prefixes = ["proxy-", "x-forwarded-", "sec-"];
    !refused && !is_hop_by_hop(name) && !prefixes.iter().any(|prefix| text.starts_with(prefix))
}

/// Whether a client's header goes along when its request is carried to another node (protocol notes 5.8), on whose
/// way others may read it. An allow-list: what nobody thought of may be a credential.
///
/// On it is what says how to serve the request, and no more: media types, language and caching, what MCP says in
/// headers, and what traces a request.
#[must_use]
pub fn carried_request_header(name: &HeaderName) -> bool {
    let text = name.as_str();
    let listed = matches!(
        text,
        "accept"
            | "accept-language"
            | "content-type"
            | "user-agent"
            | "cache-control"
            | "pragma"
            | "priority"
            | "last-event-id"
            | "traceparent"
            | "tracestate"
            | "baggage"
            | "x-request-id"
            | "x-correlation-id"
    );
    listed || text.starts_with("mcp-")
}

/// Whether an upstream's header may go to the client as it is. An allow-list: a header nobody
/// thought of may set cookies, relax what browsers check, or tell about the inside.
///
/// `Content-Type` is not on it: whoever writes the body says what it is.
#[must_use]
pub fn forwardable_response_header(name: &HeaderName) -> bool {
    let text = name.as_str();
    let listed = matches!(
        text,
        "cache-control"
            | "pragma"
            | "retry-after"
            | "content-language"
            | "traceresponse"
            | "x-request-id"
            | "x-correlation-id"
            | "x-accel-buffering"
            | "ratelimit"
    );
    let prefixes = ["ratelimit-", "x-ratelimit-", "x-rate-limit-"];
    listed || prefixes.iter().any(|prefix| text.starts_with(prefix))
}
