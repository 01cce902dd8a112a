//! The load client: what is done to a target, and what is read off it meanwhile.

pub(crate) mod caller;
pub(crate) mod client;
pub(crate) mod crowd;
pub(crate) mod held;
pub(crate) mod http_sse;
pub(crate) mod meter;
pub(crate) mod workers;
