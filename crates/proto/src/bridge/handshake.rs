//! `initialize` (protocol notes 5.2 and 5.2.1).

use std::time::Instant;

use bytes::Bytes;

use crate::bridge::action::{CallId, End, MemberId};
use crate::bridge::association::CAPABILITIES;
use crate::bridge::call::Purpose;
use crate::bridge::capabilities::Declared;
use crate::bridge::client::check_length;
use crate::bridge::downgrade::Channel;
use crate::bridge::gap::Notices;
use crate::bridge::member::declared_in;
use crate::bridge::{Reframing, Refused, Sharing};
use crate::classify::Served;
use crate::revision::Revision;
use crate::rpc::{Kind, Message, code, error_response, member, quoted, response, splice, string};

/// The handshake of a shared session, which is done once.
#[derive(Debug, Default)]
pub(super) enum Handshake {
    #[default]
    Open,
    /// The upstream was asked.
    Running {
        /// The revision it was asked for.
        asked: String,
        /// Others that want the same.
        waiting: Vec<CallId>,
    },
    Done {
        asked: String,
        result: Bytes,
        /// `notifications/initialized` was passed on.
        notified: bool,
    },
}

impl Reframing {
    /// `initialize` of the only client: it is passed on, and what it declares is what the server may ask
    /// for.
    pub(super) fn initialize(
        &mut self,
        member: MemberId,
        message: &Message,
        now: Instant,
    ) -> Result<(), Refused> {
        let declared = declared_in(message)?;
        let call = self.open(member, message, Purpose::Initialize, now)?;
        if let Some(known) = self.members.get_mut(&member) {
            known.declared = Some(declared);
        }
        self.write(call);
        Ok(())
    }

    /// `initialize` of a client on a shared session: the first one is passed on, without capabilities;
    /// the others get its result.
    pub(super) fn shared_initialize(
        &mut self,
        member: MemberId,
        message: &Message,
        now: Instant,
    ) -> Result<(), Refused> {
        let invalid = |parameter| Refused::InvalidParameter { parameter };
        let wanted = message.param_str("protocolVersion");
        let wanted = wanted.ok_or_else(|| invalid("protocolVersion"))?;
        check_length(wanted.len())?;
        if !self.config.declares_nothing() {
            let declared = declared_in(message)?;
            if let Some(known) = self.members.get_mut(&member) {
                known.declared = Some(declared);
            }
        }
        match self.shared.as_ref().map(|shared| &shared.handshake) {
            None => Err(Refused::Over),
            Some(Handshake::Open) => {
                let edited = Message::parse(self.declaring(message, &wanted));
                let edited = edited.map_err(|_| invalid(CAPABILITIES))?;
                let call = self.open(member, &edited, Purpose::Initialize, now)?;
                self.set_handshake(Handshake::Running {
                    asked: wanted,
                    waiting: Vec::new(),
                });
                self.write(call);
                Ok(())
            }
            Some(Handshake::Running { asked, .. } | Handshake::Done { asked, .. })
                if *asked != wanted =>
            {
                Err(Refused::OtherRevision)
            }
            Some(Handshake::Running { .. }) => {
                let call = self.open(member, message, Purpose::Initialize, now)?;
                if let Some(Handshake::Running { waiting, .. }) = self.handshake() {
                    waiting.push(call);
                }
                Ok(())
            }
            Some(Handshake::Done { result, .. }) => {
                let result = result.clone();
                if let Some(known) = self.members.get_mut(&member) {
                    known.ready = true;
                }
                self.answer_here(member, message, &result);
                Ok(())
            }
        }
    }

    /// `initialize` as the upstream gets it: in the name of all who may come.
    fn declaring(&self, message: &Message, wanted: &str) -> Bytes {
        match (self.config.sharing, self.config.channel) {
            (Sharing::Shared, Channel::Streams) => {
                let revision = Revision::from_bytes(wanted.as_bytes());
                let revision = revision.unwrap_or(Revision::NEWEST_LEGACY);
                let all = Declared::parse(&Bytes::from_static(ON_STREAMS));
                let all = all.map(|all| all.to_modern(revision)).unwrap_or_default();
                with_capabilities(message, &all)
            }
            (Sharing::Shared, Channel::Pipe) => without_capabilities(message),
            _ => message.source().clone(),
        }
    }

    fn handshake(&mut self) -> Option<&mut Handshake> {
        self.shared.as_mut().map(|shared| &mut shared.handshake)
    }

    fn set_handshake(&mut self, handshake: Handshake) {
        if let Some(shared) = &mut self.shared {
            shared.handshake = handshake;
        }
    }

    pub(super) fn initialize_answered(&mut self, id: CallId, message: &Message) {
        if names_unknown_revision(message) {
            return self.refuse_revision();
        }
        self.notices = Notices::of(message);
        let Some(handshake) = self.handshake() else {
            return self.relay_response(id, message);
        };
        let Handshake::Running { asked, waiting } = std::mem::take(handshake) else {
            return self.relay_response(id, message);
        };
        // Keeps no part of the upstream's message.
        let result = message
            .result()
            .map(|result| Bytes::copy_from_slice(&result));
        for call in std::iter::once(id).chain(waiting) {
            match &result {
                None => self.relay_response(call, message),
                Some(result) => self.admit(call, result),
            }
        }
        if let Some(result) = result {
            self.set_handshake(Handshake::Done {
                asked,
                result,
                notified: false,
            });
        }
    }

    /// A client session is initialized by the result of another one's handshake, or its own.
    fn admit(&mut self, id: CallId, result: &Bytes) {
        let Some(owner) = self.take_call(id).and_then(|call| call.owner) else {
            return;
        };
        if let Some(known) = self.members.get_mut(&owner.member) {
            known.ready = true;
        }
        let answer = response(&owner.request, result);
        self.answer(owner, answer);
    }

    /// The handshake failed for the one that was written; those that wait for it get the same error.
    pub(super) fn initialize_failed(&mut self, reason: &str, text: &str) {
        let Some(handshake) = self.handshake() else {
            return;
        };
        if let Handshake::Running { waiting, .. } = std::mem::take(handshake) {
            for call in waiting {
                self.answer_error(call, reason, text);
            }
        }
    }

    /// Whether `notifications/initialized` of this client is the first, which goes to the upstream.
    pub(super) fn is_first_initialized(&mut self, member: MemberId) -> bool {
        let ready = self.members.get(&member).is_some_and(|known| known.ready);
        match self.handshake() {
            Some(Handshake::Done { notified, .. }) if ready => !std::mem::replace(notified, true),
            _ => false,
        }
    }

    /// The upstream counter-offered a revision that nobody here can speak.
    fn refuse_revision(&mut self) {
        let sessions = Served {
            legacy: true,
            modern: false,
        };
        let supported = sessions.revisions().into_iter();
        let supported: Vec<String> = supported.map(|r| quoted(r.as_str())).collect();
        let data = format!(
            "{{\"supported\":[{}],\"reason\":\"unknown_revision\",\"upstream\":{}}}",
            supported.join(","),
            quoted(&self.config.upstream)
        );
        let text = "the upstream answered with a protocol version that is not known here";
        for id in self.calls.ids(|call| call.purpose == Purpose::Initialize) {
            if let Some(owner) = self.take_call(id).and_then(|call| call.owner) {
                let (id, data) = (Some(&owner.request), Some(data.as_bytes()));
                let answer = error_response(id, code::INVALID_PARAMS, text, data);
                self.answer(owner, answer);
            }
        }
        self.end("no common protocol version", End::UnknownRevision);
    }
}

/// `initialize` as a shared upstream session gets it: no client capability is declared, since nobody
/// could tell which client a server request is for (protocol notes 5.2.1).
#[must_use]
pub fn without_capabilities(initialize: &Message) -> Bytes {
    with_capabilities(initialize, b"{}")
}

fn with_capabilities(initialize: &Message, capabilities: &[u8]) -> Bytes {
    let source = initialize.source();
    let declared = initialize.param(CAPABILITIES);
    declared
        .and_then(|declared| splice(source, &declared, capabilities))
        .unwrap_or_else(|| source.clone())
}

/// What is declared in the name of all where each answer comes with its request. Not roots, whose answer
/// outlives the call.
const ON_STREAMS: &[u8] = br#"{"sampling":{},"elicitation":{"form":{},"url":{}}}"#;

/// Whether an answer to `initialize` names a revision that is none, or has no `initialize`.
pub(super) fn names_unknown_revision(answer: &Message) -> bool {
    if answer.kind() != Kind::Response {
        return false;
    }
    let named = answer
        .result()
        .and_then(|result| member(&result, "protocolVersion"));
    named.is_some_and(|named| {
        let named = string(&named).and_then(|named| Revision::from_bytes(named.as_bytes()));
        named.is_none_or(Revision::is_modern)
    })
}
