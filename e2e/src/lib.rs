//! Peers for the end-to-end tests: programs nobody here wrote, started on free ports and gone when
//! the test is.
//!
//! Nothing is skipped: what is missing fails the test that needs it, and says what installs it.

pub mod cluster;
pub mod conformance;
pub mod peers;
pub mod process;
pub mod scenario;
