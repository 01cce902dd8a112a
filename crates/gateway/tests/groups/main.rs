//! What of a session outlives a process, and which server of several it is tied to: the gateway as a library, over
//! sockets, in front of servers that count.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod attachment;
mod balance;
mod breaker;
mod failover;
mod front;
mod held;
mod replicas;
mod sessions;
