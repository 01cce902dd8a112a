//! What is known of an upstream without asking it: whether it answers, and which revisions it speaks.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{HeaderMap, Uri};
use thinpipe_proto::balance::{Outcome, Tried};
use thinpipe_proto::revision::{Binding, Revision};
use thinpipe_transport::body::BodyError;
use thinpipe_transport::upstream::UpstreamError;
use thinpipe_transport::upstream::probe::{self, ProbeError, ProbeFailure, Speaks, Verdict};
use tokio::sync::Notify;

use crate::clock::{Seldom, now};
use crate::config::HealthConfig;
use crate::failure::{Failure, Reason, with_causes};
use crate::group::outcome_of_error;
use crate::pipe::Spoken;
use crate::route::{Asked, Route, modern, verdict_of};
use crate::sync::lock;

mod asking;
mod checks;
mod contradiction;
mod news;
mod strays;

pub(crate) use checks::watch;
pub(crate) use contradiction::{denies_revision, is_of_sessions, is_refusal};
use news::News;
use strays::{IS_IT_THE_ENDPOINT, is_no_mcp};

/// While an upstream is down it is looked at this often, or at its interval if that is shorter.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(1);

/// So many checks more must fail until a replica counts as gone that other gateways may reach.
const UNTIL_SURE: u32 = 10;

/// The server is asked anew after this, since servers are upgraded, and one that refuses a revision
/// does not contradict itself when it learns it. A modern verdict that is contradicted falls at once.
const VERDICT_LIFETIME: Duration = Duration::from_secs(3600);

/// Whether an upstream answers.
#[derive(Debug)]
pub(crate) struct Health {
    config: HealthConfig,
    down: AtomicBool,
    failures: AtomicU32,
    /// Why the last check failed: while it is down, whoever asks is told.
    cause: Mutex<String>,
    suspicion: Notify,
}

impl Health {
    pub(crate) fn new(config: HealthConfig) -> Self {
        Self {
            config,
            down: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            cause: Mutex::default(),
            suspicion: Notify::new(),
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        !self.down.load(Ordering::Relaxed)
    }

    /// How long a check waits for its answer.
    fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// Whether it has not answered for so long that it is not the way from here alone that fails, as far as can be told
    /// from here.
    pub(crate) fn is_surely_down(&self) -> bool {
        let failures = self.failures.load(Ordering::Relaxed);
        !self.is_healthy() && failures >= self.config.failures.saturating_add(UNTIL_SURE)
    }

    /// A connection failed: worth a look before the interval has passed.
    pub(crate) fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Why the last check failed, on one line. It names the upstream, not its address.
    pub(crate) fn cause(&self) -> String {
        lock(&self.cause).clone()
    }

    /// What a check of this replica has found.
    fn record(&self, checked: Result<(), String>, route: &Route, replica: usize) {
        let upstream = route.name();
        let of = route
            .group()
            .and_then(|group| group.replicas().get(replica));
        // One that has no others has none, and then the field is not there.
        let name = of.and_then(|it| it.name.as_deref());
        let Err(cause) = checked else {
            self.failures.store(0, Ordering::Relaxed);
            if self.down.swap(false, Ordering::Relaxed) {
                // It may be another one by now: a new version, or an old one again.
                route.era().forget();
                tell(route, replica, true);
                tracing::info!(upstream, replica = name, "the upstream answers again");
            }
            return;
        };
        // Before it is down, so that nobody reads of it without its cause.
        let mut last = lock(&self.cause);
        last.clone_from(&cause);
        drop(last);
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures >= self.config.failures && !self.down.swap(true, Ordering::Relaxed) {
            tell(route, replica, false);
            let url = of.map(|it| presentable(&it.upstream.config().url));
            tracing::warn!(
                upstream,
                replica = name,
                url,
                failures,
                "the upstream does not answer; it gets no requests: {cause}"
            );
        }
    }

    fn interval(&self) -> Duration {
        let failing = self.failures.load(Ordering::Relaxed) > 0;
        if failing {
            self.config.interval.min(RECOVERY_INTERVAL)
        } else {
            self.config.interval
        }
    }
}

/// The group leaves it out, or takes it in again.
fn tell(route: &Route, replica: usize, answers: bool) {
    if let Some(group) = route.group() {
        group.checked(replica, answers);
    }
}

/// What an upstream speaks, once that has been found out.
#[derive(Debug, Default)]
pub(crate) struct Era {
    /// The configuration says it: nobody asks, and nothing contradicts it.
    pinned: Option<Arc<Verdict>>,
    verdict: Mutex<Option<(Arc<Verdict>, Instant)>>,
    /// It refused `initialize`, as one of 2026-07-28 alone does: some that list no other revision take it.
    refuses_initialize: AtomicBool,
    /// Held while the server is asked; how the last asking ended.
    probing: tokio::sync::Mutex<Option<Found>>,
    /// Askings that have ended.
    ended: AtomicU64,
    /// A program did not answer the last one in time.
    silent: AtomicBool,
    /// A verdict falls over an answer.
    contradicted: Seldom,
    news: News,
}

type Found = Result<Arc<Verdict>, Failure>;

impl Era {
    /// What is pinned is known from the beginning (protocol notes 1.3).
    pub(crate) fn new(pin: Option<Binding>) -> Self {
        let speaks = |binding| match binding {
            Binding::HttpSse => Speaks::HttpSse { revision: None },
            Binding::Sessions => Speaks::Legacy {
                revision: Revision::NEWEST_LEGACY,
            },
            Binding::Stateless => modern(),
        };
        Self {
            pinned: pin.map(|binding| Arc::new(verdict_of(speaks(binding)))),
            ..Self::default()
        }
    }

    pub(crate) fn known(&self) -> Option<Arc<Verdict>> {
        if let Some(pinned) = &self.pinned {
            return Some(Arc::clone(pinned));
        }
        let verdict = lock(&self.verdict);
        let now = now();
        let fresh = |at: &Instant| now.saturating_duration_since(*at) < VERDICT_LIFETIME;
        verdict
            .as_ref()
            .filter(|(_, at)| fresh(at))
            .map(|(verdict, _)| Arc::clone(verdict))
    }

    /// Whether the configuration says it.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pinned.is_some()
    }

    /// It may be another server by now: the next request asks anew.
    pub(crate) fn forget(&self) {
        lock(&self.verdict).take();
    }

    /// The program that spoke 2026-07-28 is gone: the next start of it is asked. One with sessions says what it
    /// speaks at each start, by its answer to `initialize`.
    pub(crate) fn forget_stateless(&self) {
        lock(&self.verdict).take_if(|(verdict, _)| verdict.modern().is_some());
    }

    /// The server has answered a stateless request as none of 2026-07-28 does: if it was thought to be one, the
    /// next request asks anew. True for a server that was replaced by an older one.
    pub(crate) fn contradicted(&self) {
        let mut known = lock(&self.verdict);
        known.take_if(|(verdict, _)| {
            verdict.modern().is_some() && self.contradicted.is_due(contradiction::BETWEEN)
        });
    }

    /// No session can be opened where there were some: the next request asks anew.
    pub(crate) fn contradicted_sessions(&self) {
        let mut known = lock(&self.verdict);
        known.take_if(|(verdict, _)| verdict.modern().is_none());
    }

    /// There is no stream of HTTP+SSE where there was one: the next session asks anew.
    pub(crate) fn contradicted_stream(&self) {
        let mut known = lock(&self.verdict);
        known.take_if(|(verdict, _)| matches!(verdict.speaks, Speaks::HttpSse { .. }));
    }

    /// Of a program that did not answer in time nothing is learned: what it says to `initialize` will tell.
    fn heard(&self, asked: Asked) -> Arc<Verdict> {
        match asked {
            Asked::Answered(verdict) => self.learn(verdict),
            Asked::Silent(verdict) => {
                self.silent.store(true, Ordering::Release);
                Arc::new(verdict)
            }
        }
    }

    /// A program has answered `initialize`. That it has sessions says nothing of 2026-07-28, unless it was
    /// asked for that before.
    pub(crate) fn said(&self, speaks: Option<Spoken>) {
        let was_silent = self.silent.swap(false, Ordering::AcqRel);
        match speaks {
            Some(Spoken::Stateless) => {
                self.learn(verdict_of(modern()));
                self.refuses_initialize.store(true, Ordering::Release);
            }
            Some(Spoken::Sessions(revision)) if was_silent => {
                self.learn(verdict_of(Speaks::Legacy { revision }));
            }
            Some(Spoken::Sessions(_)) | None => {}
        }
    }

    /// Whether it is known to have no sessions: pinned, or tried.
    pub(crate) fn is_modern_only(&self) -> bool {
        let verdict = self.known();
        let is_modern = verdict.is_some_and(|v| v.modern().is_some() && v.legacy().is_none());
        is_modern && (self.pinned.is_some() || self.refuses_initialize.load(Ordering::Acquire))
    }

    fn learn(&self, verdict: Verdict) -> Arc<Verdict> {
        let verdict = Arc::new(verdict);
        self.refuses_initialize.store(false, Ordering::Release);
        let now = now();
        let mut known = lock(&self.verdict);
        *known = Some((Arc::clone(&verdict), now));
        verdict
    }
}

impl Route {
    /// What the upstream speaks; asks it if that is not known. One probe at a time (K1). Whoever calls this
    /// is who says it: what is found out otherwise is logged.
    ///
    /// # Errors
    /// Why it could not be found out, for people.
    pub async fn probe(&self) -> Result<Arc<Verdict>, String> {
        let found = match self.era().known() {
            Some(verdict) => Ok(verdict),
            None => self.ask_once().await,
        };
        if let Ok(verdict) = &found {
            self.era().news.are(&verdict.speaks);
        }
        found.map_err(|failure| failure.text)
    }

    /// Whether the configuration says what the upstream speaks: it is never asked, and
    /// [`probe`](Self::probe) says what is believed.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.era().is_pinned()
    }

    /// Where the upstream is, for people: without what may be a credential, user and query; the URLs of several
    /// replicas with commas between them. `None` for a server that is a child process.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        let replicas = self.group()?.replicas().iter();
        let urls: Vec<_> = replicas
            .map(|it| presentable(&it.upstream.config().url))
            .collect();
        Some(urls.join(", "))
    }

    pub(crate) async fn find_out(&self) -> Found {
        match self.era().known() {
            Some(verdict) => Ok(verdict),
            // Boxed: it is mostly known, and whoever wants to know it is not made larger by the asking.
            None => Box::pin(self.ask_and_tell()).await,
        }
    }

    async fn ask_and_tell(&self) -> Found {
        let found = self.ask_once().await;
        // What a program has answered is told with its answer.
        if let Ok(verdict) = found.as_ref()
            && self.upstream().is_some()
        {
            self.tell_spoken(verdict);
        }
        found
    }

    async fn ask_what_it_speaks(&self) -> Found {
        if let Some(asked) = self.ask_program().await {
            return asked.map(|asked| self.era().heard(asked));
        }
        let headers = self.own_headers(Revision::NEWEST)?;
        match self.probe_one(headers).await? {
            Ok(verdict) => Ok(self.era().learn(verdict)),
            Err(error) => {
                let mut text = with_causes(&error);
                if is_no_mcp(&error) {
                    text.push_str(IS_IT_THE_ENDPOINT);
                }
                Err(Failure::new(reason_of(&error), text))
            }
        }
    }

    /// Asks a replica; another one if it cannot be reached.
    async fn probe_one(&self, headers: HeaderMap) -> Result<Result<Verdict, ProbeError>, Failure> {
        let (mut tried, mut before) = (Tried::default(), None);
        loop {
            let picked = match (self.http()?.pick(tried), before.take()) {
                (Ok(picked), _) => picked,
                (Err(_), Some(error)) => return Ok(Err(error)),
                (Err(none), None) => return Err(self.unsent(&none)),
            };
            let (replica, index, is_only) = (picked.replica(), picked.index(), picked.is_only());
            let probing = probe::probe_with(&replica.upstream, headers.clone(), self.buffered());
            let probed = probing.await;
            picked.ended(outcome_of(&probed));
            match probed {
                Err(error) if is_unreachable(&error) => {
                    replica.health.suspect();
                    if is_only {
                        return Ok(Err(error));
                    }
                    tried.add(index);
                    before = Some(error);
                }
                probed => return Ok(probed),
            }
        }
    }

    /// A server has refused `initialize`: whether that is because it has no sessions.
    pub(crate) async fn turns_out_modern_only(&self) -> bool {
        let verdict = self.find_out().await;
        let is = verdict.is_ok_and(|v| v.modern().is_some() && v.legacy().is_none());
        self.era().refuses_initialize.store(is, Ordering::Release);
        is
    }
}

fn is_unreachable(error: &ProbeError) -> bool {
    matches!(error, ProbeError::Upstream(UpstreamError::Connect { .. }))
}

/// What a probe says of the replica that was asked.
fn outcome_of(probed: &Result<Verdict, ProbeError>) -> Outcome {
    match probed {
        Ok(_) => Outcome::Success,
        Err(ProbeError::Upstream(error)) => outcome_of_error(error),
        Err(error) if error.is_passing() => Outcome::Unknown,
        Err(_) => Outcome::Success,
    }
}

/// Why there is no verdict, as clients are told. A probe runs nothing, so that nothing is lost with it.
fn reason_of(error: &ProbeError) -> Reason {
    match error {
        ProbeError::Failed(ProbeFailure::Unauthorized { .. }) => Reason::Auth,
        ProbeError::Failed(failure) if !failure.is_passing() => Reason::Invalid,
        ProbeError::Upstream(UpstreamError::TimedOut { .. }) => Reason::Timeout,
        ProbeError::Body(error) if error.is_timeout() => Reason::Timeout,
        ProbeError::Upstream(UpstreamError::Exhausted { .. })
        | ProbeError::Body(BodyError::NoRoom(_)) => Reason::Overloaded,
        ProbeError::Upstream(UpstreamError::Malformed { .. } | UpstreamError::Redirect { .. }) => {
            Reason::Invalid
        }
        _ => Reason::Unavailable,
    }
}

/// An address without user and query.
fn presentable(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or("http");
    let authority = url.authority().map_or("", |it| it.as_str());
    let place = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{place}{}", url.path())
}

/// What a server speaks, for people.
#[must_use]
pub fn describe(verdict: &Verdict) -> String {
    let with_sessions = |revision| format!("Streamable HTTP with sessions (up to {revision})");
    match &verdict.speaks {
        Speaks::Modern { revisions, legacy } => {
            let names: Vec<_> = revisions.iter().map(|revision| revision.as_str()).collect();
            let modern = format!("stateless Streamable HTTP ({})", names.join(", "));
            match legacy {
                Some(legacy) => format!("{modern} and {}", with_sessions(*legacy)),
                None => modern,
            }
        }
        Speaks::Legacy { revision } => with_sessions(*revision),
        Speaks::HttpSse {
            revision: Some(revision),
        } => format!("HTTP+SSE (up to {revision})"),
        Speaks::HttpSse { revision: None } => "HTTP+SSE".to_owned(),
    }
}

#[cfg(test)]
mod tests;
