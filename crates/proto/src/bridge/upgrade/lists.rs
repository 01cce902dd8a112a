//! The listen for changes of the server's lists, open while the client can be told of them.

use std::time::Instant;

use super::calls::Purpose;
use super::config::ACKNOWLEDGEMENT;
use super::notices::{ACKNOWLEDGED, list_changed, relayed};
use super::session::Session;
use super::{CallId, Upgrading};
use crate::backoff::Backoff;
use crate::bridge::action::Nature;
use crate::bridge::clock::after;
use crate::bridge::shape::error_code;
use crate::rpc::{Kind, Message, Object, code};

/// Which lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    tools: bool,
    prompts: bool,
    resources: bool,
}

/// The listen.
#[derive(Debug)]
pub(super) struct Lists {
    /// Of which the server tells, as far as it has not refused to.
    offered: Kinds,
    state: State,
    backoff: Backoff,
    /// Something may have changed that nobody was told of.
    gap: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    /// Not acknowledged yet; lost at this time.
    Opening(CallId, Instant),
    Open(CallId, Instant),
    /// Lost; opened again at this time.
    Waiting(Instant),
}

impl Kinds {
    const NAMES: [(&str, &str); 3] = [
        ("toolsListChanged", "notifications/tools/list_changed"),
        ("promptsListChanged", "notifications/prompts/list_changed"),
        (
            "resourcesListChanged",
            "notifications/resources/list_changed",
        ),
    ];

    fn flags(self) -> [bool; 3] {
        [self.tools, self.prompts, self.resources]
    }

    fn from_flags([tools, prompts, resources]: [bool; 3]) -> Self {
        Self {
            tools,
            prompts,
            resources,
        }
    }

    fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Those that an acknowledgement names, of these.
    fn honoured(self, acknowledged: &Object) -> Self {
        let mut flags = self.flags();
        for (flag, (name, _)) in flags.iter_mut().zip(Self::NAMES) {
            *flag &= acknowledged.get(name).is_some_and(|value| value == "true");
        }
        Self::from_flags(flags)
    }

    /// The methods of their notices.
    fn methods(self) -> impl Iterator<Item = &'static str> {
        let kinds = Self::NAMES.into_iter().zip(self.flags());
        kinds.filter_map(|((_, method), wanted)| wanted.then_some(method))
    }

    fn filter(self) -> Object {
        let mut filter = Object::new();
        for ((name, _), wanted) in Self::NAMES.into_iter().zip(self.flags()) {
            if wanted {
                filter.set(name, "true");
            }
        }
        filter
    }
}

impl Lists {
    pub(super) fn offered(session: &Session) -> Self {
        let offered = session.offered;
        Self {
            offered: Kinds {
                tools: offered.tools_changed,
                prompts: offered.prompts_changed,
                resources: offered.resources_changed,
            },
            state: State::Closed,
            backoff: Backoff::new(),
            gap: false,
        }
    }

    /// Whether it is open, or to be opened again.
    pub(super) fn is_on(&self) -> bool {
        !matches!(self.state, State::Closed)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Opening(_, at) | State::Waiting(at) => Some(at),
            State::Closed | State::Open(..) => None,
        }
    }

    /// It is not open any more; whatever happens until it is, the client has to read again.
    fn lose(&mut self, now: Instant) {
        // What was acknowledged, and lived, was progress (G7).
        if let State::Open(_, since) = self.state
            && after(since, Backoff::CAP) <= now
        {
            self.backoff.reset();
        }
        self.gap = true;
        self.state = State::Closed;
    }
}

impl Upgrading {
    pub(super) fn start_lists(&mut self, now: Instant) {
        if !matches!(self.lists.state, State::Closed) || self.lists.offered.is_empty() {
            return;
        }
        let filter = self.lists.offered.filter();
        let call = self.listen_call(Purpose::Lists, filter);
        let until = after(now, self.config.limits.idle);
        self.lists.state = State::Opening(call, until);
        self.wake_at(until);
    }

    /// Opens a listen.
    pub(super) fn listen_call(&mut self, purpose: Purpose, filter: Object) -> CallId {
        let call = self.calls.insert(purpose);
        let mut params = Object::new();
        params.set("notifications", filter.into_bytes());
        let message = self.own_request(call, "subscriptions/listen", params);
        self.push_call(call, message, None);
        call
    }

    pub(super) fn lists_notified(&mut self, call: CallId, message: &Message, now: Instant) {
        let method = message.method().unwrap_or_default();
        match self.lists.state {
            State::Opening(..) if method == ACKNOWLEDGED => {
                self.lists_acknowledged(call, message, now);
            }
            State::Opening(call, until) => {
                // It should have come first: it has a little more time.
                self.dropped.notifications += 1;
                let until = until.min(after(now, ACKNOWLEDGEMENT));
                self.lists.state = State::Opening(call, until);
                self.wake_at(until);
            }
            State::Open(..) if self.lists.offered.methods().any(|kind| kind == method) => {
                if method == "notifications/tools/list_changed" {
                    self.schemas.forget();
                }
                self.deliver(None, relayed(message), Nature::ChangeNotice);
            }
            _ => self.dropped.notifications += 1,
        }
    }

    fn lists_acknowledged(&mut self, call: CallId, message: &Message, now: Instant) {
        let honoured = message.param("notifications");
        let honoured = honoured.and_then(|filter| Object::parse(&filter).ok());
        // What is not honoured is refused for good.
        let kinds = self.lists.offered.honoured(&honoured.unwrap_or_default());
        self.lists.offered = kinds;
        let missed = std::mem::take(&mut self.lists.gap);
        if kinds.is_empty() {
            self.lists.state = State::Closed;
            return self.cancel_call(call);
        }
        self.lists.state = State::Open(call, now);
        if missed {
            self.schemas.forget();
            for method in kinds.methods() {
                self.deliver(None, list_changed(method), Nature::ChangeNotice);
            }
        }
    }

    /// The server has ended the listen.
    pub(super) fn lists_ended(&mut self, message: &Message, now: Instant) {
        let error = message
            .error()
            .filter(|_| message.kind() == Kind::ErrorResponse);
        let refused = error.and_then(|error| error_code(&error)) == Some(code::METHOD_NOT_FOUND);
        if refused {
            self.lists.offered = Kinds::default();
            self.lists.state = State::Closed;
        } else {
            self.lists_lost(now);
        }
    }

    pub(super) fn lists_lost(&mut self, now: Instant) {
        self.lists.lose(now);
        if self.audience.listens() {
            let at = after(now, self.next_delay_of_lists());
            self.lists.state = State::Waiting(at);
            self.wake_at(at);
        }
    }

    fn next_delay_of_lists(&mut self) -> std::time::Duration {
        let delay = self.lists.backoff.next_delay(self.chance.number(), None);
        delay.unwrap_or(Backoff::CAP)
    }

    pub(super) fn suspend_lists(&mut self) {
        match std::mem::replace(&mut self.lists.state, State::Closed) {
            State::Opening(call, _) | State::Open(call, _) => {
                self.lists.gap = true;
                self.cancel_call(call);
            }
            State::Waiting(_) => self.lists.gap = true,
            State::Closed => {}
        }
    }

    /// Does what is due about it.
    pub(super) fn expire_lists(&mut self, now: Instant) {
        match self.lists.state {
            State::Opening(call, until) if until <= now => {
                self.cancel_call(call);
                self.lists_lost(now);
            }
            State::Waiting(at) if at <= now => {
                self.lists.state = State::Closed;
                if self.audience.listens() {
                    self.start_lists(now);
                }
            }
            _ => {}
        }
    }
}
