//! Several gateways with one Redis, of which any may be killed: the program as its users run it.
//!
//! What is held in a process (`resume = "log"`, HTTP+SSE, programs) and what is not are tested beside each other: for
//! clients they are the same.

mod balancing;
mod dying;
mod load;
mod moving;
mod outage;
mod rolling;
mod sharing;
mod storm;
#[expect(dead_code, reason = "it serves other tests too")]
#[path = "../gateway/support.rs"]
mod support;
mod world;
