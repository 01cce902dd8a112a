//! Fuzz target; what it checks is in `checks/src/sse_scan.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| thinpipe_fuzz_checks::sse_scan::check(data));
