//! An interceptor that changes what clients say.

use serde_json::json;
use thinpipe_gateway::UpstreamSpec;
use thinpipe_gateway::interceptor::InterceptorConfig;

/// What is at this place of a message is replaced by `"hidden"` on its way.
pub(crate) fn hide(spec: &mut UpstreamSpec, pointer: &str) {
    let redact = json!({
        "type": "redact",
        "rules": [{"pointer": pointer, "replace": "hidden"}],
    });
    let redact: InterceptorConfig = serde_json::from_value(redact).expect("an interceptor");
    spec.interceptors.push(redact);
}
