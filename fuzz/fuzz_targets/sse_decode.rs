//! Fuzz target; what it checks is in `checks/src/sse_decode.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| thinpipe_fuzz_checks::sse_decode::check(data));
