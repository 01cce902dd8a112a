//! What only child processes do.
