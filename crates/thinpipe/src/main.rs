//! tmp
mod config;
fn main() {}
