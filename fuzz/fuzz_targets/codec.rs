//! RTP payloads of every codec that is looked into, and parameter sets.
#![no_main]
use libfuzzer_sys::fuzz_target;
use reconstruct::codec::{Codec, GuessState, guess, h264, h265, look};

fuzz_target!(|data: &[u8]| {
    let Some((&more, data)) = data.split_first() else { return };
    let names =
        ["H264", "H265", "JPEG", "MP4V-ES", "MP2T", "AV1", "MPEG4-GENERIC", "PCMU", "G726-32", "OPUS", "X"];
    for name in names {
        let look = look(Some(Codec::from_encoding_name(name)), data, data.len() + usize::from(more));
        for range in look.parameter_sets {
            assert!(range.start <= range.end);
        }
    }
    let mut state = GuessState::new();
    for piece in data.chunks(64) {
        guess(&mut state, piece, more & 1 != 0);
    }
    h264::dimensions(data);
    h264::profile_level_id(data);
    h265::dimensions(data);
});
