//! Clients of 2026-07-28 in front of servers that have sessions (protocol notes 5.4): the gateway as a
//! library, over sockets, row by row, for each way to such a server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "it serves other tests too")]
#[path = "../pipes/front.rs"]
mod front;
#[path = "../pipes/hiding.rs"]
mod hiding;

mod children;
mod draining;
mod errors;
mod figures;
mod headers;
mod leaving;
mod limits;
mod listens;
mod log;
mod logs;
mod params;
mod place;
mod rounds;
mod sealed;
mod sessions;
mod settings;
mod states;
mod tasks;
mod urls;
