//! `server/discover`, answered from the server's `InitializeResult`.

use crate::bridge::capabilities::{Heard, discover_result};
use crate::bridge::downgrade::Downgrading;
use crate::bridge::downgrade::handshake::Server;
use crate::bridge::downgrade::reply::{Failure, Outcome};
use crate::bridge::refused::INVALID;

impl Downgrading {
    pub(super) fn discovered(&self, server: &Server) -> Outcome {
        let notices = self.standing.hears();
        let (served, caching) = (&self.config.served, self.config.caching);
        match discover_result(&server.result, served, Heard { notices }, caching) {
            Ok(result) => Outcome::Result(result),
            Err(invalid) => {
                let text = invalid.to_string();
                Outcome::Failed(Failure::internal(502, INVALID, &text))
            }
        }
    }
}
