//! What is let in: as many messages of a client as it may send.

use http::StatusCode;
use thinpipe_proto::rate::Refused;
use thinpipe_proto::rpc::code;
use thinpipe_transport::server::{Answer, Posted};

use super::Route;
use crate::clock::now;
use crate::failure::Failure;
use crate::rate::{Excess, Whose};

impl Route {
    /// Counts what a client has posted against the rates it has to keep.
    ///
    /// # Errors
    /// 429 if there is too much of it now; 400 for a batch that would be too much at any time.
    pub(super) fn admitted(&self, posted: &Posted<'_>) -> Result<(), Answer> {
        let Some(limiter) = &self.limiter else {
            return Ok(());
        };
        let (principal, client) = (posted.principal, posted.client);
        let admitted = limiter.admit(principal, client, posted.messages, now());
        admitted.map_err(|excess| {
            self.counters.rate_limited(posted.messages as u64);
            self.too_many(posted, excess)
        })
    }

    fn too_many(&self, posted: &Posted<'_>, excess: Excess) -> Answer {
        let Excess { rate, whose, .. } = excess;
        let whose = match whose {
            Whose::Client => "this client",
            Whose::Upstream => "this server",
            Whose::Gateway => "the gateway",
        };
        match excess.refused {
            Refused::For(wait) => {
                let text = format!("too many messages: {whose} has {rate}");
                Failure::rate_limited(text, wait).answer(posted.id, self.name())
            }
            Refused::Forever => {
                let most = rate.burst();
                let text = format!("a batch has at most {most} messages here: {whose} has {rate}");
                let data = serde_json::json!({ "reason": "bad_request", "upstream": self.name() });
                let (status, code) = (StatusCode::BAD_REQUEST, code::INVALID_REQUEST);
                Answer::error(status, posted.id, code, &text, Some(&data.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header::RETRY_AFTER;
    use thinpipe_proto::session::Principal;
    use thinpipe_transport::upstream::UpstreamConfig;

    use super::*;
    use crate::config::UpstreamSpec;

    /// C23: who comes again when it was told to passes, and a second earlier does not.
    #[tokio::test(start_paused = true)]
    async fn c23_the_wait_that_is_told_is_true() {
        let url = http::Uri::from_static("http://h/mcp");
        let mut spec = UpstreamSpec::new("/mcp", UpstreamConfig::new("u".into(), url));
        spec.rate = Some("1/90s".parse().expect("a rate"));
        let route = Route::alone(spec);
        let principal = Principal::Anonymous;
        let posted = Posted {
            principal: &principal,
            client: None,
            id: None,
            messages: 1,
        };
        assert!(route.admitted(&posted).is_ok());
        tokio::time::advance(Duration::from_millis(500)).await;
        for (later, told) in [(0, Some("90")), (89, Some("1")), (1, None)] {
            tokio::time::advance(Duration::from_secs(later)).await;
            let refused = route.admitted(&posted).err();
            let wait = refused.as_ref().map(|answer| &answer.headers[RETRY_AFTER]);
            assert_eq!(wait.map(|wait| wait.as_bytes()), told.map(str::as_bytes));
        }
        assert_eq!(route.route_stats().rate_limited, 2);
    }
}
