#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kvs_hls::fuzzing::session_response(data));
