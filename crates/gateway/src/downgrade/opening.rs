//! Which session a request runs on, and how another one is opened.

use std::sync::Arc;

use bytes::Bytes;
use thinpipe_proto::bridge::downgrade::{
    Channel, Config, Downgrading, Lifetime, Limits, Listening, Refused, Request,
};
use thinpipe_proto::bridge::shape::{Caching, CachingScope};
use thinpipe_proto::bridge::{DEFAULT_ABSOLUTE_CAP, DEFAULT_CAP};
use thinpipe_proto::revision::Revision;

use super::place::Place;
use super::pool::{Bound, NoSession, Offer};
use super::post::Post;
use super::session::Session;
use super::state::SessionKey;
use super::{Downgrade, Owner, Refusal, Settings};
use crate::failure::{Failure, Reason};

/// As which client the gateway opens sessions.
const CLIENT_INFO: &str = concat!(
    r#"{"name":"thinpipe","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

impl Downgrade {
    /// Gives a request to a session, to `first` if that is there and takes it.
    pub(super) async fn run(
        self: &Arc<Self>,
        owner: &Arc<dyn Owner>,
        request: Request,
        post: &Arc<Post>,
        first: Option<SessionKey>,
    ) -> Result<Arc<Session>, Refusal> {
        let offer = |session: &Arc<Session>| offered(session.request(request.clone(), post));
        if post.place.lifetime == Lifetime::PerRequest {
            // The session that a client was sent away on waits for it.
            let before = first.and_then(|first| self.session(first));
            if let Some(session) = before
                && matches!(offer(&session), Offer::Taken)
            {
                return Ok(session);
            }
            let session = self.open(owner, post);
            return match session.request(request, post) {
                Ok(()) => Ok(session),
                Err(refused) => Err(Refusal::Machine(refused)),
            };
        }
        self.offer(owner, post, first, offer).await
    }

    async fn offer(
        self: &Arc<Self>,
        owner: &Arc<dyn Owner>,
        post: &Arc<Post>,
        first: Option<SessionKey>,
        offer: impl FnMut(&Arc<Session>) -> Offer<Refused>,
    ) -> Result<Arc<Session>, Refusal> {
        let pool = &self.settings.bridge.pool;
        let max = match post.place.lifetime {
            Lifetime::Shared => 1,
            _ => pool.max,
        };
        let is_first = |session: &Session| Some(session.key) == first;
        let open = || self.open(owner, post);
        let offered = self
            .pool
            .offer(&post.place, (max, pool.wait), is_first, offer, open);
        offered.await.map_err(|none| match none {
            NoSession::Refused(refused) => Refusal::Machine(refused),
            NoSession::Full(bound) => {
                let text = self.full(post, bound);
                Refusal::Failed(Failure::new(Reason::Overloaded, text))
            }
        })
    }

    /// Why a request gets no session, and what would give it one.
    fn full(&self, post: &Post, bound: Bound) -> String {
        let (name, pool) = (self.name(), &self.settings.bridge.pool);
        if post.place.lifetime == Lifetime::Shared {
            return format!("the session with {name}, which all clients share, takes no more");
        }
        let (max, total) = (pool.max, pool.total);
        // Who may have all there are reaches what bounds all.
        let text = if bound == Bound::Total || max >= total {
            let key = self.settings.total_key;
            format!("all {total} sessions with {name} are in use (`{key}`)")
        } else {
            format!(
                "all {max} sessions with {name} that one principal may have are in use (`session_pool.max`)"
            )
        };
        if bound == Bound::Total {
            return text;
        }
        match self.parked.count_of(&post.client) {
            // Where all messages come in one row, a question is told from others by its session alone.
            waiting @ 1.. if post.place.channel == Channel::Pipe => format!(
                "{text}; {waiting} of its calls wait for what the client was asked, each with a session to itself"
            ),
            _ => text,
        }
    }

    /// Begins a session. Whoever has something for it need not wait until it is open.
    fn open(self: &Arc<Self>, owner: &Arc<dyn Owner>, post: &Post) -> Arc<Session> {
        let key = SessionKey(self.number());
        let machine = Downgrading::new(self.config(&post.place));
        let session = Arc::new(Session::new(key, Arc::clone(self), machine));
        self.lock().insert(key, Arc::downgrade(&session));
        // What several clients use says nothing in the name of the first one.
        let headers = (!post.place.is_of_many()).then(|| post.headers.clone());
        let opening = Arc::clone(owner).open(headers);
        let running = Arc::clone(&session).run(opening, Arc::clone(owner), self.stop.clone());
        self.tasks.spawn(running);
        session
    }

    pub(super) fn config(&self, place: &Place) -> Config {
        let Settings {
            upstream,
            bridge,
            clients,
            idle,
            stream_idle,
            ..
        } = &self.settings;
        let longest = *idle.max(stream_idle);
        Config {
            upstream: upstream.to_string(),
            channel: place.channel,
            lifetime: place.lifetime,
            revision: Revision::NEWEST_LEGACY,
            capabilities: place.declared.clone(),
            client_info: Bytes::from_static(CLIENT_INFO.as_bytes()),
            served: clients.served().revisions(),
            caching: Caching {
                ttl: bridge.list_ttl,
                scope: CachingScope::Private,
            },
            limits: Limits {
                idle: *idle,
                stream_idle: *stream_idle,
                cap: DEFAULT_CAP.max(longest),
                absolute_cap: DEFAULT_ABSOLUTE_CAP.max(longest),
                parked_age: bridge.parked.age,
                ..Limits::default()
            },
        }
    }

    /// A request whose session is gone before it ran goes to another one.
    pub(super) async fn again(
        self: &Arc<Self>,
        owner: &Arc<dyn Owner>,
        request: Request,
        post: &Arc<Post>,
    ) -> Result<Arc<Session>, Failure> {
        let ran = self.run(owner, request, post, None).await;
        ran.map_err(|refusal| self.session_lost(refusal))
    }

    /// A listen whose session is gone goes on with another one.
    pub(super) async fn relisten(
        self: &Arc<Self>,
        owner: &Arc<dyn Owner>,
        listening: Listening,
        post: &Arc<Post>,
    ) -> Result<Arc<Session>, Failure> {
        let adopt = |session: &Arc<Session>| offered(session.adopt(listening.clone(), post));
        let adopted = if post.place.lifetime == Lifetime::PerRequest {
            let session = self.open(owner, post);
            let adopted = session.adopt(listening.clone(), post);
            adopted.map(|()| session).map_err(Refusal::Machine)
        } else {
            self.offer(owner, post, None, adopt).await
        };
        adopted.map_err(|refusal| self.session_lost(refusal))
    }

    fn session_lost(&self, refusal: Refusal) -> Failure {
        match refusal {
            Refusal::Failed(failure) => failure,
            _ => {
                let text = format!(
                    "the session with {} was lost, and no other took over",
                    self.name()
                );
                Failure::new(Reason::SessionLost, text)
            }
        }
    }
}

fn offered(taken: Result<(), Refused>) -> Offer<Refused> {
    match taken {
        Ok(()) => Offer::Taken,
        Err(Refused::Over | Refused::Busy | Refused::TooManyInFlight { .. }) => Offer::Elsewhere,
        Err(refused) => Offer::Refused(refused),
    }
}
