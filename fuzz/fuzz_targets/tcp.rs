//! Segments of both sides: 8 bytes of header each, then as many bytes as they say; what comes out goes through the framing.
#![no_main]
use capture::{CaptureTime, ShardId};
use libfuzzer_sys::fuzz_target;
use reconstruct::interleaved::Interleaved;
use reconstruct::span::{Location, Slice};
use reconstruct::tcp::{Connection, Segment, Side, TcpEvent, TcpLimits};
use reconstruct::wire::TcpFlags;

fuzz_target!(|data: &[u8]| {
    let limits = TcpLimits { held_bytes_max: 2000, held_segments_max: 32, ..TcpLimits::default() };
    let mut connection = Connection::default();
    let mut framing = [Interleaved::default(), Interleaved::default()];
    let mut sink = |side: Side, event: &TcpEvent<'_>| {
        let framing = &mut framing[usize::from(side == Side::B)];
        match *event {
            TcpEvent::Start { syn } => framing.handle_start(syn, &mut |_| {}),
            TcpEvent::Data(data) => framing.handle_data(data, &mut |_| {}),
            TcpEvent::Hole { len, .. } => framing.handle_hole(len, &mut |_| {}),
            TcpEvent::End { .. } => framing.finish(&mut |_| {}),
        }
    };
    let mut rest = data;
    let mut now = 0;
    while let [flags, seq_high, seq_low, ack_high, ack_low, len, cut, far, tail @ ..] = rest {
        let bytes = &tail[..usize::from(*len).min(tail.len())];
        rest = &tail[bytes.len()..];
        now += i64::from(far & 0x7f) * 10_000_000;
        let base = if far & 0x80 != 0 { 0x9000_0000 } else { 0 };
        let at = Location { shard: ShardId(0), record: 0, entry: 0, offset: 0 };
        let payload = &Slice { bytes, at, time: CaptureTime::from_nanos(now) };
        let segment = Segment {
            seq: base + u32::from(u16::from_be_bytes([*seq_high, *seq_low])),
            ack: base + u32::from(u16::from_be_bytes([*ack_high, *ack_low])),
            flags: TcpFlags(flags & 0x1f),
            payload,
            len_on_wire: bytes.len() as u32 + u32::from(cut & 0x0f),
        };
        let side = if flags & 0x80 != 0 { Side::B } else { Side::A };
        connection.handle_segment(&limits, side, &segment, &mut sink);
        assert!(connection.held_bytes() <= 2 * (2000 + 255));
    }
    connection.finish(CaptureTime::from_nanos(now), &mut sink);
});
