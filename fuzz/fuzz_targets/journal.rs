//! A journal's bytes.
#![no_main]
use capture::parse_journal;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let parsed = parse_journal(data);
    assert!(parsed.end <= data.len() && parsed.damaged <= data.len());
});
