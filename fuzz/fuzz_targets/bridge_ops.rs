//! Fuzz target; what it checks is in `checks/src/bridge_ops.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| thinpipe_fuzz_checks::bridge_ops::check(data));
