//! Datagrams of one flow: a length byte before each.
#![no_main]
use libfuzzer_sys::fuzz_target;
use reconstruct::recognise::Recogniser;

fuzz_target!(|data: &[u8]| {
    let mut recogniser = Recogniser::default();
    let mut rest = data;
    while let Some((&len, tail)) = rest.split_first() {
        let payload = &tail[..usize::from(len).min(tail.len())];
        rest = &tail[payload.len()..];
        recogniser.handle(payload, payload.len());
    }
});
