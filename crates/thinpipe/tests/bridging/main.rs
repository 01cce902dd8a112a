//! Any client to any server: the program between a client of each transport and a server of each, for every
//! row of the protocol notes 5.2 to 5.5, named by the row and by the pair.
//!
//! Which rows there are, and what became of them, is what `cargo xtask matrix` writes into the chapter on
//! bridging.

#[macro_use]
mod pairs;
#[expect(dead_code, reason = "it serves other tests too")]
#[path = "../gateway/support.rs"]
mod support;

mod asking;
mod caller;
mod calling;
mod cancelling;
mod changing;
mod failing;
mod gateway;
mod isolating;
mod logging;
mod opening;
mod parking;
mod prompting;
