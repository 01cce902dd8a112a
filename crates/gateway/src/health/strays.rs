//! Replicas that answer, but not as MCP servers: checks are content with any answer, and requests are shared out.

use http::HeaderMap;
use thinpipe_proto::revision::Revision;
use thinpipe_transport::upstream::probe::{self, ProbeError, ProbeFailure};

use super::presentable;
use crate::failure::with_causes;
use crate::group::Replica;
use crate::route::Route;

/// What helps with an address that answers, but with no MCP.
pub(super) const IS_IT_THE_ENDPOINT: &str =
    "; is its URL that of its MCP endpoint, mostly /mcp or /sse?";

impl Route {
    /// Asks each of several replicas what it speaks, within the time-out of its health checks, and says for people
    /// which of them answer with no MCP, as those do whose path is wrong. Of one that does not answer at all its
    /// checks tell; and none is asked if there is but one, or if the configuration says what they speak.
    pub async fn strays(&self) -> Vec<String> {
        let replicas = self.group().map_or(&[][..], |group| group.replicas());
        if replicas.len() < 2 || self.is_pinned() {
            return Vec::new();
        }
        let Ok(headers) = self.own_headers(Revision::NEWEST) else {
            return Vec::new();
        };
        let mut strays = Vec::new();
        for replica in replicas {
            if let Some(why) = self.why_astray(replica, headers.clone()).await {
                let name: &str = replica.name.as_deref().unwrap_or_default();
                let url = presentable(&replica.upstream.config().url);
                strays.push(format!("replica {name} at {url} cannot be used yet: {why}"));
            }
        }
        strays
    }

    async fn why_astray(&self, replica: &Replica, headers: HeaderMap) -> Option<String> {
        let asking = probe::probe_with(&replica.upstream, headers, self.buffered());
        let within = replica.health.timeout();
        match tokio::time::timeout(within, asking).await {
            Ok(Err(error)) if is_no_mcp(&error) => {
                Some(format!("{}{IS_IT_THE_ENDPOINT}", with_causes(&error)))
            }
            _ => None,
        }
    }
}

/// Whether something answers there that is no MCP server.
pub(super) fn is_no_mcp(error: &ProbeError) -> bool {
    matches!(error, ProbeError::Failed(ProbeFailure::NotMcp { .. }))
}
