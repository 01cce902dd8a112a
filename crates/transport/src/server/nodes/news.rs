//! What other nodes say about sessions that may be live here too.

use std::sync::{Arc, Weak};

use thinpipe_proto::tunnel::News;
use tokio::sync::mpsc;

use super::dropped::Dropped;
use crate::io::now;
use crate::server::Shared;

/// News that may wait. One more is dropped: what it says is found in the store too.
const MAX_WAITING: usize = 4096;

/// Where news wait for the task that heeds them.
pub(super) struct Told {
    sender: mpsc::Sender<News>,
    dropped: Dropped,
}

/// A queue for news: they may need the store, and what is said about exchanges does not wait for that.
pub(super) fn queue() -> (Told, mpsc::Receiver<News>) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let told = Told {
        sender,
        dropped: Dropped::default(),
    };
    (told, receiver)
}

impl Told {
    /// Cancellations, of which anybody may send many, need nothing but this process, and take no place.
    pub(super) fn tell(&self, news: News, shared: &Shared) {
        if let News::Cancelled(id, request) = news {
            shared.sessions.cancelled_elsewhere(&id, &request);
            return;
        }
        if self.sender.try_send(news).is_err()
            && let Some(count) = self.dropped.add(now())
        {
            tracing::warn!(count, "too many news of sessions wait; some are dropped");
        }
    }
}

/// Heeds news until there are none any more.
pub(super) async fn heed(mut news: mpsc::Receiver<News>, shared: Weak<Shared>) {
    while let Some(news) = news.recv().await {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        heed_one(&shared, news).await;
    }
}

async fn heed_one(shared: &Arc<Shared>, news: News) {
    let sessions = &shared.sessions;
    match news {
        News::Ended(id) => {
            if let Some(session) = sessions.live_here(&id) {
                sessions.ended_elsewhere(&session);
            }
        }
        News::Changed(id) => {
            if let Some(session) = sessions.live_here(&id)
                && let Err(error) = sessions.refresh(&session).await
            {
                tracing::debug!(session = ?id, %error, "a record that was changed cannot be read");
            }
        }
        // It was heeded when it came.
        News::Cancelled(..) => {}
        News::Listening(id, _) => {
            if let Some(session) = sessions.live_here(&id)
                && session.handler().listened_elsewhere(&session)
            {
                sessions.note_replaced(&session);
            }
        }
        News::Replaced(id) => {
            if let Some(session) = sessions.live_here(&id) {
                session.handler().replaced_elsewhere(&session);
            }
        }
    }
}
