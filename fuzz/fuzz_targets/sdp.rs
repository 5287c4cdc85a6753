//! A session description.
#![no_main]
use libfuzzer_sys::fuzz_target;
use reconstruct::sdp::{Sdp, parameter_sets};

fuzz_target!(|data: &[u8]| {
    let sdp = Sdp::parse(data);
    for media in &sdp.media {
        media.primary();
    }
    if let Ok(text) = std::str::from_utf8(data) {
        parameter_sets(text);
    }
});
