//! Cursors of lists: a server may know them on the session that gave them out only (protocol notes 5.4.3,
//! "Pagination").

use bytes::Bytes;
use thinpipe_proto::rpc::{Message, Object, quoted, splice, string};

use super::post::Post;
use super::session::Session;
use super::state::{Cursor, SessionKey};
use super::{Downgrade, Refusal};
use crate::seal::{Kind, Scope};

/// The member of a list's result that leads on.
const NEXT: &str = "nextCursor";

/// The member of a request that follows it.
const CURSOR: &str = "cursor";

/// Whether the results of a method may have cursors.
pub(super) fn has_pages(method: &str) -> bool {
    matches!(
        method,
        "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list"
    )
}

/// The answer with its cursor sealed. One that cannot be sealed is left out: the list ends there.
pub(super) fn sealed(session: &Session, post: &Post, answer: Bytes) -> Bytes {
    let changed = || {
        let message = Message::parse(answer.clone()).ok()?;
        let result = message.result()?;
        let mut object = Object::parse(&result).ok()?;
        let cursor = string(object.get(NEXT)?)?.into_owned();
        let shared = &session.shared;
        let content = Cursor {
            owner: shared.boot,
            session: session.key,
            cursor,
        };
        let scope = scope(shared, post);
        match shared.seals.seal(scope, &content.to_bytes()) {
            Ok(sealed) => object.set(NEXT, quoted(&sealed)),
            Err(error) => {
                tracing::error!(upstream = shared.name(), %error, "a list ends before its end");
                object.remove(NEXT);
            }
        }
        Some(message.with_result(&object.into_bytes()))
    };
    changed().unwrap_or(answer)
}

fn scope<'a>(shared: &'a Downgrade, post: &'a Post) -> Scope<'a> {
    Scope {
        kind: Kind::Cursor,
        upstream: shared.name(),
        principal: &post.client.principal,
    }
}

/// The request with the server's own cursor, and the session that it is of; unchanged if it has none.
///
/// # Errors
/// [`Refusal`]: the cursor is not one of ours, or another principal's.
pub(super) fn opened(
    shared: &Downgrade,
    principal: &thinpipe_proto::session::Principal,
    request: &Message,
) -> Result<(Message, Option<SessionKey>), Refusal> {
    let Some(given) = request.param(CURSOR) else {
        return Ok((request.clone(), None));
    };
    let scope = Scope {
        kind: Kind::Cursor,
        upstream: shared.name(),
        principal,
    };
    let open = || {
        let sealed = string(&given)?;
        let content = shared.seals.open(scope, &sealed)?;
        let cursor = Cursor::from_bytes(&content)?;
        let own = quoted(&cursor.cursor);
        let text = splice(request.source(), &given, own.as_bytes())?;
        // Numbers of sessions begin anew with each process.
        let session = (cursor.owner == shared.boot).then_some(cursor.session);
        Some((Message::parse(text).ok()?, session))
    };
    open().ok_or(Refusal::InvalidCursor)
}
