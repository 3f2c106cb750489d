#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| kvs_hls::fuzzing::media_segment(data));
