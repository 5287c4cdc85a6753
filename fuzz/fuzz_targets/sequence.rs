//! Sequence numbers, timestamps and times: 5 bytes a packet. New packets and gaps must not overlap.
#![no_main]
use capture::CaptureTime;
use libfuzzer_sys::fuzz_target;
use reconstruct::rtp::{RtpTimestamp, SequenceNumber};
use reconstruct::sequence::SequenceTracker;

fuzz_target!(|data: &[u8]| {
    let mut tracker = SequenceTracker::default();
    let mut now = 0;
    let mut last = 0;
    for p in data.chunks_exact(5) {
        now += i64::from(p[4] as i8) * 5_000_000;
        let sequence = SequenceNumber(u16::from_be_bytes([p[0], p[1]]));
        let timestamp = RtpTimestamp(u32::from(u16::from_be_bytes([p[2], p[3]])));
        tracker.handle(CaptureTime::from_nanos(now), sequence, timestamp);
        while let Some(gap) = tracker.poll_gap() {
            assert!(gap.first <= gap.last && gap.first.0 > last);
            last = gap.last.0;
        }
    }
    tracker.finish();
});
