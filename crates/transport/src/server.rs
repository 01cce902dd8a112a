//! The server side of Streamable HTTP: sessions (2025-03-26 to 2025-11-25) and stateless
//! (2026-07-28) on one endpoint.

mod config;
mod exchange;
mod session;

pub use config::{AccessToken, LegacyMode, Limits, ServerConfig};
pub use exchange::{Answer, Content, Exchange, Handler, Inbound};
pub use session::{
    Activity, InFlight, Negotiated, Session, SessionEnd, SessionError, SessionLimits,
    SessionManager, SessionSlot, SessionStats,
};
