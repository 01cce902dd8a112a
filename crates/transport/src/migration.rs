//! The way from HTTP+SSE to Streamable HTTP: for a server's configuration, for the people who run it, and
//! for each of its clients (A24 to A26).
//!
//! ```
//! use thinpipe_transport::mcp::config::HttpSseConfig;
//! use thinpipe_transport::migration::MigrationHelper;
//!
//! let config = HttpSseConfig::builder().max_streams(800_usize).build()?;
//! let streamable = MigrationHelper::generate_streamable_config(&config);
//! assert_eq!(streamable.endpoint, "/mcp");
//!
//! let guide = MigrationHelper::new(config)?.migration_guide();
//! assert!(guide.contains("`GET /sse`"));
//! # Ok::<(), thinpipe_transport::mcp::config::ConfigError>(())
//! ```

use std::time::SystemTime;

use http::HeaderMap;
use thinpipe_proto::deprecation::{LinkTarget, MigrationAdvice, Timestamp, advise};

use crate::mcp::config::{ConfigError, HttpSseConfig, HttpTransportConfig};

mod guide;
mod plan;

#[cfg(test)]
mod tests;

pub use plan::{Fate, MigrationPlan, Setting};

/// Helps to leave HTTP+SSE behind, for a server that is set up in a certain way.
#[derive(Debug, Clone)]
pub struct MigrationHelper {
    config: HttpSseConfig,
    successor: LinkTarget,
}

impl MigrationHelper {
    /// For a server that is set up like this.
    ///
    /// # Errors
    /// [`ConfigError`] if a field says what is not possible.
    pub fn new(config: HttpSseConfig) -> Result<Self, ConfigError> {
        config.sse_config()?;
        let successor = config.successor()?;
        Ok(Self { config, successor })
    }

    /// How a server is set up that serves the same clients over Streamable HTTP only.
    ///
    /// What is set in `base_config` stays as it is. What HTTP+SSE has a limit or a time of its own for is
    /// raised to that where it is larger, so that no client that was served is refused; nothing is
    /// multiplied. [`plan`](Self::plan) says what became of each setting.
    #[must_use]
    pub fn generate_streamable_config(config: &HttpSseConfig) -> HttpTransportConfig {
        plan::generate(config)
    }

    /// The same configuration, and what became of each setting of the old one.
    #[must_use]
    pub fn plan(&self) -> MigrationPlan {
        MigrationPlan::new(&self.config)
    }

    /// How to move, in Markdown, for those who run this server and those whose clients use it. It names
    /// this server's paths, limits and dates. Figures in it were measured by this project's benchmark.
    #[must_use]
    pub fn migration_guide(&self) -> String {
        guide::write(&self.config, &self.successor, &self.plan())
    }

    /// What the sender of a request should do about its transport, as far as the request's headers tell,
    /// and as soon as this server's sunset demands. Reads the clock; [`advise`] does not.
    #[must_use]
    pub fn compatibility_check(&self, headers: &HeaderMap) -> MigrationAdvice {
        let now = Timestamp::from(SystemTime::now());
        advise(headers, self.config.deprecation.phase(now))
    }
}
