//! `subscriptions/listen` over a session (protocol notes 5.4.3).

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;

use crate::bridge::capabilities::declares_tasks;
use crate::bridge::client::check_length;
use crate::bridge::concerns;
use crate::bridge::downgrade::handshake::Features;
use crate::bridge::downgrade::reply::Failure;
use crate::bridge::downgrade::{
    Action, Attached, AttachmentId, Content, Downgrading, Listening, Refused,
};
use crate::rpc::{Message, Object, RequestId, elements, meta_key, quoted, response, string};

/// One listen.
#[derive(Debug)]
pub(super) struct Listen {
    id: RequestId,
    /// What it asked for; once it is past [`Stage::Waiting`], what is honoured of that.
    wanted: Wanted,
    stage: Stage,
    /// The client got the acknowledgement, from this session or another: what it says is kept.
    acknowledged: bool,
    /// What came before the acknowledgement. No more than it hears.
    held: BTreeSet<Notice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The session is not open, or nobody knows whether notices can come.
    Waiting,
    /// Its resources are being subscribed to.
    Subscribing,
    /// They are there.
    Open,
}

/// What a listen hears.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    tools: bool,
    prompts: bool,
    resources: bool,
    uris: BTreeSet<String>,
}

/// "Read again".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Notice {
    Tools,
    Prompts,
    Resources,
    Updated(String),
}

impl Notice {
    pub(super) fn of(message: &Message) -> Option<Self> {
        Some(match message.method()? {
            "notifications/tools/list_changed" => Self::Tools,
            "notifications/prompts/list_changed" => Self::Prompts,
            "notifications/resources/list_changed" => Self::Resources,
            "notifications/resources/updated" => {
                Self::Updated(message.param_str("uri").unwrap_or_default())
            }
            _ => return None,
        })
    }

    /// The notification, stamped. It says no more than "read again", so that equal ones are equal.
    fn stamped(&self, id: &RequestId) -> Bytes {
        let (method, uri) = match self {
            Self::Tools => ("notifications/tools/list_changed", None),
            Self::Prompts => ("notifications/prompts/list_changed", None),
            Self::Resources => ("notifications/resources/list_changed", None),
            Self::Updated(uri) => ("notifications/resources/updated", Some(uri)),
        };
        let mut params = Object::new();
        if let Some(uri) = uri {
            params.set("uri", quoted(uri));
        }
        notification(method, params, id)
    }
}

impl Wanted {
    fn read(request: &Message) -> Result<Self, Refused> {
        let parameter = "notifications";
        let invalid = || Refused::InvalidParameter { parameter };
        let asked = request.param(parameter).ok_or_else(invalid)?;
        let asked = Object::parse(&asked).map_err(|_| invalid())?;
        let flag = |name| asked.get(name).is_some_and(|value| value == "true");
        let mut uris = BTreeSet::new();
        if let Some(list) = asked.get("resourceSubscriptions") {
            for uri in elements(list).map_err(|_| invalid())? {
                check_length(uri.len())?;
                uris.insert(string(&uri).ok_or_else(invalid)?.into_owned());
            }
        }
        if let Some(tasks) = asked.get("taskIds") {
            // None is honoured: tasks are not translated (protocol notes 5.6).
            let tasks = elements(tasks).map_err(|_| invalid())?;
            if tasks.iter().any(|task| string(task).is_none()) {
                return Err(invalid());
            }
            if !declares_tasks(request) {
                return Err(Refused::TasksUndeclared);
            }
        }
        Ok(Self {
            tools: flag("toolsListChanged"),
            prompts: flag("promptsListChanged"),
            resources: flag("resourcesListChanged"),
            uris,
        })
    }

    /// What of it such a server can tell.
    fn honoured(&self, server: Features, hears: bool) -> Self {
        let uris = match hears && server.subscribe {
            true => self.uris.clone(),
            false => BTreeSet::new(),
        };
        Self {
            tools: self.tools && server.tools_changed && hears,
            prompts: self.prompts && server.prompts_changed && hears,
            resources: self.resources && server.resources_changed && hears,
            uris,
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn hears(&self, notice: &Notice) -> bool {
        match notice {
            Notice::Tools => self.tools,
            Notice::Prompts => self.prompts,
            Notice::Resources => self.resources,
            Notice::Updated(changed) => self.uris.iter().any(|uri| concerns(uri, changed)),
        }
    }

    /// What is kept of a notice that it hears: of a part of a resource that it is to read again. So there are never
    /// more than it asked for.
    fn kept<'a>(&'a self, notice: &'a Notice) -> impl Iterator<Item = Notice> + 'a {
        let changed = match notice {
            Notice::Updated(changed) => Some(changed),
            Notice::Tools | Notice::Prompts | Notice::Resources => None,
        };
        let uris = changed.map(|changed| self.uris.iter().filter(|uri| concerns(uri, changed)));
        let uris = uris.into_iter().flatten().cloned().map(Notice::Updated);
        let itself = changed.is_none().then(|| notice.clone());
        uris.chain(itself)
    }

    /// A notice for everything it hears.
    fn all(&self) -> BTreeSet<Notice> {
        let kinds = [
            (self.tools, Notice::Tools),
            (self.prompts, Notice::Prompts),
            (self.resources, Notice::Resources),
        ];
        let kinds = kinds.into_iter().filter(|(heard, _)| *heard);
        let uris = self.uris.iter().cloned().map(Notice::Updated);
        kinds.map(|(_, notice)| notice).chain(uris).collect()
    }

    fn acknowledgement(&self, id: &RequestId) -> Bytes {
        let mut honoured = Object::new();
        for (heard, name) in [
            (self.tools, "toolsListChanged"),
            (self.prompts, "promptsListChanged"),
            (self.resources, "resourcesListChanged"),
        ] {
            if heard {
                honoured.set(name, "true");
            }
        }
        if !self.uris.is_empty() {
            let uris: Vec<String> = self.uris.iter().map(|uri| quoted(uri)).collect();
            honoured.set("resourceSubscriptions", format!("[{}]", uris.join(",")));
        }
        let mut params = Object::new();
        params.set("notifications", honoured.into_bytes());
        notification("notifications/subscriptions/acknowledged", params, id)
    }
}

impl Listen {
    /// Whether such a server has anything to tell it.
    pub(super) fn needs_stream(&self, server: Features) -> bool {
        !self.wanted.honoured(server, true).is_empty()
    }
}

impl Downgrading {
    pub(super) fn take_listen(
        &mut self,
        attachment: AttachmentId,
        request: &Message,
    ) -> Result<(), Refused> {
        let missing = Refused::InvalidParameter { parameter: "id" };
        let id = request.id().cloned().ok_or(missing)?;
        check_length(id.as_json().len())?;
        self.add_listen(attachment, id, Wanted::read(request)?, false)
    }

    pub(super) fn take_listening(&mut self, listening: Listening) -> Result<(), Refused> {
        if self.phase.is_over() || self.draining || self.retired {
            return Err(Refused::Over);
        }
        let Listening {
            attachment,
            id,
            wanted,
            acknowledged,
        } = listening;
        self.add_listen(attachment, id, wanted, acknowledged)
    }

    fn add_listen(
        &mut self,
        attachment: AttachmentId,
        id: RequestId,
        wanted: Wanted,
        acknowledged: bool,
    ) -> Result<(), Refused> {
        let limits = &self.config.limits;
        if self.listens.len() >= limits.listens {
            let limit = limits.listens;
            return Err(Refused::TooManyListens { limit });
        }
        let uris: usize = self
            .listens
            .values()
            .map(|listen| listen.wanted.uris.len())
            .sum();
        if uris + wanted.uris.len() > limits.uris {
            let limit = limits.uris;
            return Err(Refused::TooManyListens { limit });
        }
        let listen = Listen {
            id,
            wanted,
            stage: Stage::Waiting,
            acknowledged,
            held: BTreeSet::new(),
        };
        self.listens.insert(attachment, listen);
        self.attachments.insert(attachment, Attached::Listen);
        self.used = true;
        Ok(())
    }

    /// Moves listens on that need not wait any more.
    pub(super) fn run_listens(&mut self, now: Instant) {
        if self.phase.server().is_none() {
            return;
        }
        let (undecided, features) = (self.standing.is_undecided(now), self.features());
        let waiting = self.listens.iter().filter(|(_, listen)| {
            listen.stage == Stage::Waiting && !(undecided && listen.needs_stream(features))
        });
        let waiting: Vec<AttachmentId> = waiting.map(|(attachment, _)| *attachment).collect();
        for attachment in waiting {
            self.begin_listen(attachment, now);
        }
        let subscribing = self.listens.iter().filter(|(_, listen)| {
            listen.stage == Stage::Subscribing
                && listen.wanted.uris.iter().all(|uri| self.is_subscribed(uri))
        });
        let ready: Vec<AttachmentId> = subscribing.map(|(attachment, _)| *attachment).collect();
        for attachment in ready {
            self.open_listen(attachment);
        }
    }

    /// It is known what can be honoured, but for the resources.
    fn begin_listen(&mut self, attachment: AttachmentId, now: Instant) {
        let (features, hears) = (self.features(), self.standing.hears());
        let Some(listen) = self.listens.get_mut(&attachment) else {
            return;
        };
        let honoured = listen.wanted.honoured(features, hears);
        if listen.acknowledged && honoured != listen.wanted {
            return self.end_listen(attachment, now);
        }
        listen.held.retain(|notice| honoured.hears(notice));
        listen.stage = Stage::Subscribing;
        let uris: Vec<String> = honoured.uris.iter().cloned().collect();
        listen.wanted = honoured;
        for uri in uris {
            self.want(uri, attachment, now);
        }
    }

    /// Everything it asked for is there, or left out.
    fn open_listen(&mut self, attachment: AttachmentId) {
        let Some(listen) = self.listens.get_mut(&attachment) else {
            return;
        };
        listen.stage = Stage::Open;
        let held = std::mem::take(&mut listen.held);
        let (notices, acknowledgement) = match std::mem::replace(&mut listen.acknowledged, true) {
            // Something may have changed while nobody heard it.
            true => (listen.wanted.all(), None),
            false => (held, Some(listen.wanted.acknowledgement(&listen.id))),
        };
        let stamped: Vec<Bytes> = notices.iter().map(|n| n.stamped(&listen.id)).collect();
        if let Some(acknowledgement) = acknowledgement {
            self.deliver(attachment, Content::Notification(acknowledgement));
        }
        for notice in stamped {
            self.deliver(attachment, Content::ChangeNotice(notice));
        }
    }

    /// Tells everyone who listens to this.
    pub(super) fn notify(&mut self, notice: &Notice) {
        let mut deliveries = Vec::new();
        for (attachment, listen) in &mut self.listens {
            if !listen.wanted.hears(notice) {
                continue;
            }
            match listen.stage {
                Stage::Open => deliveries.push((*attachment, notice.stamped(&listen.id))),
                Stage::Waiting | Stage::Subscribing => {
                    listen.held.extend(listen.wanted.kept(notice));
                }
            }
        }
        for (attachment, notice) in deliveries {
            self.deliver(attachment, Content::ChangeNotice(notice));
        }
    }

    /// Something may have been missed: everyone is told everything.
    pub(super) fn notify_all(&mut self) {
        let wanted = self.listens.values().flat_map(|listen| listen.wanted.all());
        let notices: BTreeSet<Notice> = wanted.collect();
        notices.iter().for_each(|notice| self.notify(notice));
    }

    /// A resource cannot be subscribed to: it is left out.
    pub(super) fn leave_out(&mut self, attachment: AttachmentId, uri: &str, now: Instant) {
        let Some(listen) = self.listens.get_mut(&attachment) else {
            return;
        };
        listen.wanted.uris.remove(uri);
        listen.held.remove(&Notice::Updated(uri.to_owned()));
        // What was promised cannot be kept.
        if listen.acknowledged {
            self.end_listen(attachment, now);
        }
    }

    /// A client listens no more.
    pub(super) fn unlisten(&mut self, attachment: AttachmentId, now: Instant) -> Option<RequestId> {
        self.attachments.remove(&attachment);
        let listen = self.listens.remove(&attachment)?;
        if listen.stage != Stage::Waiting {
            for uri in &listen.wanted.uris {
                self.unwant(uri, attachment, now);
            }
        }
        Some(listen.id)
    }

    /// Ends a listen from this side.
    fn end_listen(&mut self, attachment: AttachmentId, now: Instant) {
        if let Some(id) = self.unlisten(attachment, now) {
            let message = final_result(&id);
            let status = 200;
            self.deliver(attachment, Content::Response { message, status });
        }
    }

    pub(super) fn end_listens(&mut self, now: Instant) {
        let all: Vec<AttachmentId> = self.listens.keys().copied().collect();
        all.into_iter()
            .for_each(|attachment| self.end_listen(attachment, now));
    }

    /// No notice can come: those that were promised some end.
    pub(super) fn end_deaf_listens(&mut self, now: Instant) {
        let all: Vec<AttachmentId> = self.listens.keys().copied().collect();
        for attachment in all {
            let Some(listen) = self.listens.get_mut(&attachment) else {
                continue;
            };
            if listen.acknowledged && !listen.wanted.is_empty() {
                self.end_listen(attachment, now);
            } else if listen.stage == Stage::Subscribing {
                listen.held.clear();
                let Wanted { uris, .. } = std::mem::take(&mut listen.wanted);
                for uri in uris {
                    self.unwant(&uri, attachment, now);
                }
            }
        }
    }

    /// The session was never opened: nobody can be heard.
    pub(super) fn fail_listens(&mut self, failure: &Failure) {
        for (attachment, listen) in std::mem::take(&mut self.listens) {
            self.attachments.remove(&attachment);
            if listen.acknowledged {
                let message = final_result(&listen.id);
                let status = 200;
                self.deliver(attachment, Content::Response { message, status });
            } else {
                self.refuse_post(attachment, &listen.id, failure);
            }
        }
    }

    /// The session is gone: other sessions may go on with its listens.
    pub(super) fn relisten(&mut self) {
        for (attachment, listen) in std::mem::take(&mut self.listens) {
            self.attachments.remove(&attachment);
            self.actions.push_back(Action::Relisten(Listening {
                attachment,
                acknowledged: listen.acknowledged,
                id: listen.id,
                wanted: listen.wanted,
            }));
        }
    }
}

/// A notification that belongs to this listen.
fn notification(method: &str, mut params: Object, id: &RequestId) -> Bytes {
    let mut meta = Object::new();
    let stamp = Bytes::copy_from_slice(id.as_json());
    meta.set(meta_key::SUBSCRIPTION_ID, stamp);
    params.set("_meta", meta.into_bytes());
    let mut message = Object::new();
    message.set("jsonrpc", "\"2.0\"");
    message.set("method", quoted(method));
    message.set("params", params.into_bytes());
    message.into_bytes()
}

/// The response that ends a listen.
pub(super) fn final_result(id: &RequestId) -> Bytes {
    let name = quoted(meta_key::SUBSCRIPTION_ID);
    let mut result = format!("{{\"resultType\":\"complete\",\"_meta\":{{{name}:").into_bytes();
    result.extend_from_slice(id.as_json());
    result.extend_from_slice(b"}}");
    response(id, &result)
}
