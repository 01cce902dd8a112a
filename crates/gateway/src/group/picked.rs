//! A replica that was chosen, until it is known how that ended.

use thinpipe_proto::balance::{Change, Outcome, Permit};
use thinpipe_transport::upstream::UpstreamRequest;

use super::{Answered, Balance, Group, Replica, Sent, Unanswered};
use crate::clock::now;
use crate::sync::lock;

/// A chosen replica. Dropped before it has [ended](Self::ended), it says nothing about the replica.
#[derive(Debug)]
pub(crate) struct Picked<'a> {
    group: &'a Group,
    index: usize,
    permit: Option<(&'a Balance, Permit)>,
}

impl<'a> Picked<'a> {
    /// There is nothing to choose.
    pub(super) fn only(group: &'a Group) -> Self {
        Self {
            group,
            index: 0,
            permit: None,
        }
    }

    pub(super) fn new(group: &'a Group, balance: &'a Balance, permit: Permit) -> Self {
        Self {
            group,
            index: permit.replica(),
            permit: Some((balance, permit)),
        }
    }

    /// Whether nothing could have been chosen in its place.
    pub(crate) fn is_only(&self) -> bool {
        self.group.replicas.len() == 1
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn replica(&self) -> &'a Replica {
        &self.group.replicas[self.index]
    }

    /// Asks it. `outcome` says what its answer says of it.
    pub(super) async fn send(
        mut self,
        request: UpstreamRequest,
        outcome: fn(&Sent) -> Outcome,
    ) -> Sent {
        let (index, replica) = (self.index, self.replica());
        let sent = replica.upstream.send(request).await;
        let sent = sent.map_err(Unanswered::from).map(|response| Answered {
            response,
            replica: index,
        });
        let outcome = outcome(&sent);
        replica.note(outcome);
        self.end(outcome);
        sent
    }

    /// How it ended.
    pub(crate) fn ended(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        let Some((balance, permit)) = self.permit.take() else {
            return;
        };
        let replica = self.replica();
        let change = lock(&balance.core).end(permit, outcome, now());
        let upstream = &*replica.upstream.config().name;
        match change {
            Some(Change::Opened(time)) => {
                // It may be down altogether.
                replica.health.suspect();
                tracing::warn!(upstream, ?time, "requests fail; it gets none for a while");
            }
            Some(Change::Closed) => tracing::info!(upstream, "it gets requests again"),
            None if outcome == Outcome::Failure => replica.health.suspect(),
            None => {}
        }
    }
}

impl Drop for Picked<'_> {
    fn drop(&mut self) {
        self.end(Outcome::Unknown);
    }
}
