//! What nodes share in Redis, against servers that the tests start.

mod cluster;
mod mistakes;
mod outage;
mod servers;
mod starving;
mod suites;
mod waiting;

use std::error::Error;
use std::sync::Arc;

use thinpipe_store::{RedisConfig, RedisStore, StoreError, conformance};

fn store(url: &str) -> Arc<RedisStore> {
    let config: RedisConfig = url.parse().expect("it is a URL");
    Arc::new(RedisStore::new(config, conformance::LIMITS))
}

/// What is said about a failure.
fn reason<T>(result: Result<T, StoreError>) -> String {
    match result {
        Ok(_) => "it works".to_owned(),
        Err(error) => all_of(&error),
    }
}

/// What is said of an error and all its causes.
fn all_of(error: &StoreError) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        said.push_str(": ");
        said.push_str(&error.to_string());
        source = error.source();
    }
    said
}
