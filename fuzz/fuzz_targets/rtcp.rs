//! An RTCP compound.
#![no_main]
use libfuzzer_sys::fuzz_target;
use reconstruct::rtcp::parse_compound;

fuzz_target!(|data: &[u8]| {
    assert!(parse_compound(data).count() <= data.len() / 4 + 1);
});
