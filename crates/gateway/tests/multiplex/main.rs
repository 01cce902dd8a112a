//! Clients of 2026-07-28 in front of servers of that revision (protocol notes 5.5): the gateway as a library,
//! over sockets, between scripted clients and servers.

#[expect(dead_code, reason = "it serves other tests too")]
#[path = "../pipes/front.rs"]
mod gateway;
#[expect(dead_code, reason = "it serves other tests too")]
#[path = "../pipes/relay.rs"]
mod relay;

mod front;
mod http;
mod probing;
mod program;
mod scripted;
mod sealing;
