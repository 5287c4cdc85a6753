//! An RTP packet, cut anywhere.
#![no_main]
use libfuzzer_sys::fuzz_target;
use reconstruct::rtp::RtpPacket;

fuzz_target!(|data: &[u8]| {
    let Some((&more, data)) = data.split_first() else { return };
    let len = data.len() + usize::from(more);
    if let Ok(p) = RtpPacket::parse(data, len) {
        assert_eq!(p.header_len + p.payload_len + p.padding_len, len);
        assert!(p.payload.len() <= p.payload_len);
    }
});
