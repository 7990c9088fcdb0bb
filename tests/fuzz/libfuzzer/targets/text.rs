#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    huntaze_fuzz::text::check(data);
});
