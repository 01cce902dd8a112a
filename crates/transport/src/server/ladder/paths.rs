//! The paths that clients may want, as they see them: for those who came to a wrong one.

use http::StatusCode;
use thinpipe_proto::revision::Revision;

use super::{authenticate, refuse, served_at};
use crate::server::exchange::Answer;
use crate::server::head::RequestHead;
use crate::server::sse::{Half, SseMount};
use crate::server::{Endpoint, Route, Shared};

/// Where the same endpoint is served over Streamable HTTP.
pub(crate) fn streamable(shared: &Shared, mount: &SseMount) -> Option<String> {
    let path = shared.routes.iter().find_map(|(path, route)| match route {
        Route::Mcp(endpoint) if endpoint.name == mount.endpoint.name => Some(path),
        Route::Mcp(_) | Route::Sse(..) | Route::Page(_) => None,
    })?;
    Some(mount.seen(path))
}

/// Where the same endpoint is served over HTTP+SSE.
pub(crate) fn event_stream(shared: &Shared, endpoint: &Endpoint) -> Option<String> {
    shared.routes.iter().find_map(|(path, route)| match route {
        Route::Sse(mount, Half::Stream) if mount.endpoint.name == endpoint.name => {
            Some(mount.seen(path))
        }
        Route::Mcp(_) | Route::Sse(..) | Route::Page(_) => None,
    })
}

/// 404, with what there is. Messages of HTTP+SSE are left out: nobody begins there.
pub(super) fn no_such_path(shared: &Shared, head: &RequestHead) -> Answer {
    // Strangers are not told what there is.
    if authenticate(shared, head).is_err() {
        return refuse(StatusCode::NOT_FOUND, "nothing is served here");
    }
    let routes = shared.routes.iter();
    let mut paths: Vec<_> = routes
        .filter_map(|(path, route)| match route {
            Route::Sse(_, Half::Messages) => None,
            Route::Sse(mount, Half::Stream) => Some(mount.seen(path)),
            Route::Mcp(endpoint) => {
                let seen = match beside(shared, endpoint) {
                    Some(mount) => mount.seen(path),
                    None => path.clone(),
                };
                // Clients of HTTP+SSE look for their own path where there is none.
                Some(match served_at(shared, endpoint).legacy {
                    true => seen,
                    false => format!("{seen} (for clients of {} only)", Revision::NEWEST),
                })
            }
            Route::Page(_) => Some(path.clone()),
        })
        .collect();
    paths.sort_unstable();
    let text = format!("nothing is served here; try {}", paths.join(", "));
    refuse(StatusCode::NOT_FOUND, &text)
}

/// HTTP+SSE of the same endpoint: it knows what stands before the paths.
fn beside<'a>(shared: &'a Shared, endpoint: &Endpoint) -> Option<&'a SseMount> {
    shared.routes.iter().find_map(|(_, route)| match route {
        Route::Sse(mount, _) if mount.endpoint.name == endpoint.name => Some(&**mount),
        Route::Mcp(_) | Route::Sse(..) | Route::Page(_) => None,
    })
}
