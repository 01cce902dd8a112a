//! From configuration to interceptors; what cannot work is refused here, not at the first message.

use std::sync::Arc;

use crate::interceptor::{ChainConfig, Interceptor, InterceptorConfig};

/// Why a chain cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A setting of the chain itself.
    #[error("chain: {field}: {reason}")]
    Setting {
        /// The field.
        field: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A field of an interceptor.
    #[error("interceptors[{index}] ({interceptor}): {field}: {reason}")]
    Interceptor {
        /// Its place in the chain, from 0; those that were added by a program come after the
        /// configured ones.
        index: usize,
        /// Its type, or its name if it has none.
        interceptor: String,
        /// The field, as a path: `tools.allow[0]`.
        field: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

pub(super) fn interceptors(
    configs: &[InterceptorConfig],
    extra: Vec<Arc<dyn Interceptor>>,
    settings: &ChainConfig,
) -> Result<Vec<Arc<dyn Interceptor>>, ChainError> {
    if settings.timeout_ms == 0 {
        return Err(ChainError::Setting {
            field: "timeout_ms",
            reason: "no interceptor can answer within 0 ms; it has to be at least 1".into(),
        });
    }
    let mut all = Vec::with_capacity(configs.len() + extra.len());
    for (index, config) in configs.iter().enumerate() {
        let built = config
            .build(settings)
            .map_err(|wrong| ChainError::Interceptor {
                index,
                interceptor: config.kind().into(),
                field: wrong.field,
                reason: wrong.reason,
            })?;
        all.push(built);
    }
    for interceptor in extra {
        if interceptor.name().trim().is_empty() {
            return Err(ChainError::Interceptor {
                index: all.len(),
                interceptor: interceptor.name().into(),
                field: "name".into(),
                reason: "it needs a name, for logs and errors".into(),
            });
        }
        all.push(interceptor);
    }
    Ok(all)
}
