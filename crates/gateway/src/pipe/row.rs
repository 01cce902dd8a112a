//! Notices about one request that come in a row: they are judged one by one, and go to its stream as one.

use std::collections::VecDeque;
use std::sync::Arc;

use thinpipe_proto::bridge::{Delivery, MemberId, Nature, Relayed};
use thinpipe_proto::rpc::{Message, RequestId};
use thinpipe_transport::body::BoxFuture;

use super::{Member, Owner, Place, Step, UpstreamSession};
use crate::interceptor::{Chain, MessageContext, Outcome, Step as Judged};

/// Takes back what the server has asked, which may not have been said yet.
const CANCELLED: &str = "notifications/cancelled";

/// Some of them.
pub(super) struct Row {
    member: Arc<Member>,
    request: RequestId,
    /// Those that are to be said.
    notices: VecDeque<Message>,
    /// The last one, about which an interceptor takes its time.
    judged: Option<BoxFuture<Outcome>>,
}

impl Step {
    /// Whom a notice is for, and which request it is about, if it says more than that something has changed.
    fn notice(&self) -> Option<(MemberId, &RequestId)> {
        match self {
            Self::Deliver(Delivery {
                member,
                related: Some(request),
                nature: Nature::Log | Nature::Notification,
                ..
            }) => Some((*member, request)),
            _ => None,
        }
    }
}

/// Takes the first of them, if it is a notice to this member about this request.
fn take_notice(
    steps: &mut VecDeque<Step>,
    member: MemberId,
    request: &RequestId,
) -> Option<Message> {
    if steps.front()?.notice() != Some((member, request)) {
        return None;
    }
    let Some(Step::Deliver(mut delivery)) = steps.pop_front() else {
        return None; // Unreachable: it is a notice.
    };
    match delivery.message {
        Relayed::Outlined(message) if message.method() != Some(CANCELLED) => return Some(message),
        Relayed::Text(ref text) => {
            let message = Message::parse(text.clone()).ok();
            let message = message.filter(|message| message.method() != Some(CANCELLED));
            if message.is_some() {
                return message;
            }
        }
        Relayed::Outlined(message) => delivery.message = message.into(),
    }
    steps.push_front(Step::Deliver(delivery));
    None
}

impl UpstreamSession {
    /// Takes the notices that come first, if there are any and their client is there.
    pub(super) fn row(&self, owner: &dyn Owner, steps: &mut VecDeque<Step>) -> Option<Row> {
        if self.is_of_calls() {
            // What was said about a call counts until it is delivered.
            return None;
        }
        let (id, request) = steps.front()?.notice()?;
        let request = request.clone();
        let member = self.member(id)?;
        let place = member.place().get().filter(|place| !place.is_over_sse())?;
        let mut judge = Judge::new(owner.chain(), place);
        let (mut notices, mut judged, mut has_taken) = (VecDeque::new(), None, false);
        while judged.is_none()
            && let Some(notice) = take_notice(steps, id, &request)
        {
            has_taken = true;
            match judge.about(notice) {
                Judged::Done(outcome) => notices.extend(allowed(outcome)),
                Judged::Wait(outcome) => judged = Some(outcome),
            }
        }
        has_taken.then_some(Row {
            member,
            request,
            notices,
            judged,
        })
    }

    /// Delivers what need not wait, in this order. The rest is delivered before whatever comes later.
    pub(super) fn deliver_now(&self, owner: &dyn Owner, mut steps: VecDeque<Step>) {
        while let Some(mut row) = self.row(owner, &mut steps) {
            self.say_some(&mut row);
            if !row.is_said() {
                steps.push_front(Step::Say(row));
                break;
            }
        }
        if steps.is_empty() {
            return;
        }
        let mut state = self.lock();
        steps.append(&mut state.deliveries);
        state.deliveries = steps;
        drop(state);
        self.to_deliver.notify_one();
    }

    /// Says as many of them as there is room for.
    fn say_some(&self, row: &mut Row) {
        let Row {
            member,
            request,
            notices,
            ..
        } = row;
        // If its stream was lost while they waited for it, nobody hears of them.
        let is_there = !self.manner.is_shared || member.is_answering(request);
        if let Some(place) = member.place().get().filter(|_| is_there) {
            place.conversation.say_some(notices, request);
        }
    }

    pub(super) async fn say_row(&self, owner: &Arc<dyn Owner>, mut row: Row) {
        self.say_some(&mut row);
        let Row {
            member,
            request,
            notices,
            judged,
        } = row;
        let Some(place) = member.place().get() else {
            return; // Unreachable: it was there when they were taken.
        };
        let related = Some(&request);
        for notice in &notices {
            let saying = (notice, related, &Nature::Notification);
            self.say(owner, &member, place, saying).await;
        }
        let Some(judged) = judged else {
            return;
        };
        if let Some(notice) = allowed(judged.await) {
            let saying = (&notice, related, &Nature::Notification);
            self.say(owner, &member, place, saying).await;
        }
    }
}

impl Row {
    pub(super) fn member(&self) -> MemberId {
        self.member.id()
    }

    pub(super) fn request(&self) -> &RequestId {
        &self.request
    }

    /// Bytes of what is to be said.
    pub(super) fn bytes(&self) -> usize {
        let notices = self.notices.iter();
        notices.map(|notice| notice.source().len()).sum()
    }

    fn is_said(&self) -> bool {
        self.notices.is_empty() && self.judged.is_none()
    }
}

/// Lets interceptors decide about notices.
struct Judge<'a> {
    chain: &'a Chain,
    place: &'a Place,
    /// That of the last notice.
    context: Option<MessageContext>,
}

impl<'a> Judge<'a> {
    fn new(chain: &'a Chain, place: &'a Place) -> Self {
        Self {
            chain,
            place,
            context: None,
        }
    }

    fn about(&mut self, notice: Message) -> Judged {
        if self.chain.is_empty() {
            return Judged::Done(Outcome::Forward(notice));
        }
        let is_same = |context: &MessageContext| context.method.as_deref() == notice.method();
        let context = match self.context.take() {
            Some(context) if is_same(&context) => context,
            // It names no tool, prompt or resource: only what says that one has changed does.
            _ => MessageContext {
                method: notice.method().map(Into::into),
                name: None,
                ..self.place.context.clone()
            },
        };
        let judged = self.chain.run(&context, notice);
        self.context = Some(context);
        judged
    }
}

/// What goes on. Of a notice that is refused nobody hears.
fn allowed(outcome: Outcome) -> Option<Message> {
    match outcome {
        Outcome::Forward(message) | Outcome::Changed(message) => Some(message),
        Outcome::Rejected(_) => None,
    }
}
