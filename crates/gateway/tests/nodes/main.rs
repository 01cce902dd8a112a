//! Several gateways with one store before one server, as a balancer without sticky sessions has them (protocol notes
//! 5.8): the gateway as a library, over sockets.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cluster;
mod dropped;
mod outage;
mod passed;
mod reopened;
mod responses;
mod retries;
