//! RTSP text, whole and in pieces: a message says no more than there was.
#![no_main]
use libfuzzer_sys::fuzz_target;
use reconstruct::rtsp::{MessageReader, Parsed, looks_like_rtsp, parse};

fuzz_target!(|data: &[u8]| {
    looks_like_rtsp(data);
    if let Parsed::Message(message) = parse(data) {
        assert!(message.len() <= data.len());
        message.method();
        message.uri();
        message.status();
        message.cseq();
        for (name, _) in message.headers() {
            assert!(name.len() <= data.len());
        }
    }
    let mut reader = MessageReader::new();
    for (n, piece) in data.chunks(17).enumerate() {
        reader.push(piece);
        if n % 11 == 10 {
            reader.hole();
        }
        while let Some(message) = reader.poll() {
            assert!(message.body().len() <= message.bytes().len());
        }
    }
});
