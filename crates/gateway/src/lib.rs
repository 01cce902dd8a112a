//! A gateway for the Model Context Protocol, as one handler of the server side.
//!
//! This crate opens no listening socket and frames no HTTP: `thinpipe-transport` does. It decides
//! which upstream a message goes to, lets interceptors see it, and relays the answer by the cheapest
//! way that is right.

mod attachment;
mod cache;
mod clock;
mod config;
mod downgrade;
mod failure;
mod gateway;
mod group;
mod headers;
mod health;
mod held;
pub mod interceptor;
mod log;
mod modern;
mod owner;
mod pipe;
mod rate;
mod relay;
mod route;
mod seal;
mod sealing;
mod session;
mod stats;
mod sync;

pub use config::{
    Anonymous, BridgeConfig, CacheConfig, ChildUpstream, Clients, EventLogLimits, Forwarded,
    GatewayConfig, GroupConfig, HealthConfig, HttpUpstream, InvalidStateKey, Mrtr, ParkedConfig,
    PoolConfig, ProgramEra, RateLimits, Reached, ReplicaConfig, RequestSession, Resume,
    SessionLost, Sharing, SsePaths, StateKey, UpstreamSpec,
};
pub use gateway::{Gateway, GatewayError};
pub use group::ReplicaStats;
pub use health::describe;
pub use log::{ExchangeLog, ExchangeRecord};
pub use route::Route;
pub use stats::{MethodStats, RouteStats};
