//! Fuzz target; what it checks is in `checks/src/tunnel.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| thinpipe_fuzz_checks::tunnel::check(data));
