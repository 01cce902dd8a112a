//! Tells the clients of HTTP+SSE, and the log, that it is deprecated (protocol notes section 7).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use thinpipe_proto::deprecation::{
    DeprecationConfig, Gone, LinkTarget, MAX_NAME, Severity, Throttle, gone, headers, hint,
    severity,
};
use thinpipe_proto::shown::Shown;

use super::event_buffer::EventBuffer;
use super::inventory::{ClientInventory, now};
use super::{Answer, Content, Session, SessionEnd, SseObserver};
use crate::body::Body;

/// An observer for an [`SseEndpoint`](super::SseEndpoint) that does what its configuration says: headers,
/// log lines, hints, 410 after the sunset, and a place in the inventory for each client.
pub struct DeprecationObserver {
    config: DeprecationConfig,
    successor: LinkTarget,
    headers: Vec<(HeaderName, HeaderValue)>,
    inventory: ClientInventory,
    throttle: Mutex<Throttle>,
    began: Instant,
    declares_logging: Box<dyn Fn(&Session) -> bool + Send + Sync>,
}

impl DeprecationObserver {
    /// `successor` is the endpoint of Streamable HTTP as clients see it; `inventory` may be shared by all
    /// endpoints of a server.
    #[must_use]
    pub fn new(
        config: DeprecationConfig,
        successor: LinkTarget,
        inventory: ClientInventory,
    ) -> Self {
        Self {
            headers: headers(&config, &successor),
            throttle: Mutex::new(Throttle::new(config.warn_every())),
            began: crate::io::now(),
            declares_logging: Box::new(|_| false),
            config,
            successor,
            inventory,
        }
    }

    /// Whether the handler declares the capability `logging`: only then may clients get the hint of
    /// [`MigrationLevel::Aggressive`](thinpipe_proto::deprecation::MigrationLevel::Aggressive). Default:
    /// false.
    #[must_use]
    pub fn with_declared_logging(self, declares_logging: bool) -> Self {
        self.with_logging_declared_in(move |_| declares_logging)
    }

    /// The same where it depends on the session, as behind a gateway: asked once in each session, when the
    /// handler has answered its `initialize`. It must not block.
    #[must_use]
    pub fn with_logging_declared_in(
        mut self,
        declares_logging: impl Fn(&Session) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.declares_logging = Box::new(declares_logging);
        self
    }

    fn log(&self, session: &Session, client: &ClientInfo) {
        let Some(severity) = severity(&self.config, now()) else {
            return;
        };
        let endpoint = session.endpoint();
        let (name, version) = (client.name(), client.version());
        let Some(held_back) = self.admit(&format!("{endpoint} {name:?} {version:?}")) else {
            return;
        };
        let (successor, sunset) = (&self.successor, self.config.sunset());
        let sunset = sunset.map(tracing::field::display);
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(
                    %endpoint, ?name, ?version, %successor, sunset, held_back,
                    "a client uses HTTP+SSE, which is deprecated"
                )
            };
        }
        match severity {
            Severity::Info => say!(info),
            Severity::Warning => say!(warn),
        }
    }

    fn admit(&self, key: &str) -> Option<u64> {
        let now = crate::io::now().saturating_duration_since(self.began);
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        throttle.admit(key, now)
    }

    fn send_hint(&self, session: &Session, stream: &EventBuffer) {
        let Some(hint) = hint(&self.config, now(), &self.successor) else {
            return;
        };
        if !(self.declares_logging)(session) {
            return;
        }
        // It is no answer, and nobody misses it where there is no room.
        if let Err(error) = stream.try_push(Bytes::from(hint)) {
            tracing::debug!(?error, "a client is not told that HTTP+SSE is deprecated");
        }
    }
}

impl fmt::Debug for DeprecationObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeprecationObserver")
            .field("config", &self.config)
            .field("successor", &self.successor)
            .finish_non_exhaustive()
    }
}

impl SseObserver for DeprecationObserver {
    fn response_headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        self.headers.clone()
    }

    fn instead(&self, _: &HeaderMap) -> Option<Answer> {
        let problem = gone(&self.config, now(), &self.successor)?;
        let media_type = HeaderValue::from_static(Gone::MEDIA_TYPE);
        let body = Body::from(Bytes::from(problem.to_json()));
        let content = Content::Other(Some(media_type));
        Some(Answer::new(Gone::STATUS, content, body))
    }

    /// Not later: whoever uses HTTP+SSE is counted, also if it leaves out `notifications/initialized`.
    fn negotiated(&self, session: &Arc<Session>) {
        let client = ClientInfo::of(session);
        let (name, version) = (client.name.as_str(), client.version.as_str());
        self.inventory.opened(session, name, version);
        self.log(session, &client);
    }

    fn initialized(&self, session: &Arc<Session>, stream: &EventBuffer) {
        self.send_hint(session, stream);
    }

    fn ended(&self, session: &Arc<Session>, _: SessionEnd) {
        self.inventory.ended(session);
    }
}

/// What a client calls itself, if it does.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClientInfo {
    name: String,
    version: String,
}

impl ClientInfo {
    fn of(session: &Session) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Params {
            client_info: ClientInfo,
        }
        // Whether its params are as they should be is the handler's affair; here it just has no name.
        let params = serde_json::from_slice::<Params>(&session.initialize_params());
        params.unwrap_or_default().client_info
    }

    fn name(&self) -> Shown<'_> {
        Shown::new(&self.name, MAX_NAME)
    }

    fn version(&self) -> Shown<'_> {
        Shown::new(&self.version, MAX_NAME)
    }
}
