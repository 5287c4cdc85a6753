//! H.264 (RFC 6184): single NAL units, STAP-A, FU-A. Interleaved mode (STAP-B, MTAP, FU-B) is refused and counted.

use super::super::h264::{FU_A, STAP_A, nal_type};
use super::{Assembly, Counts, Depacketizer, Packet, Sink, split_aggregate};

/// NAL units out of H.264's payload format.
#[derive(Debug, Clone, Default)]
pub struct H264 {
    assembly: Assembly,
}

impl Depacketizer for H264 {
    fn handle(&mut self, packet: Packet<'_>, sink: &mut dyn Sink) {
        let assembly = &mut self.assembly;
        assembly.counts.packets += 1;
        if packet.gap_before {
            assembly.drop_open();
        }
        let Some(&header) = packet.payload.first() else { return };
        match nal_type(header) {
            1..=23 => {
                assembly.drop_open();
                assembly.give(packet.payload, packet.timestamp, sink);
            }
            STAP_A => {
                assembly.drop_open();
                split_aggregate(assembly, &packet.payload[1..], packet.timestamp, sink);
            }
            FU_A => fragment(assembly, header, packet, sink),
            _ => assembly.counts.unsupported_packets += 1,
        }
    }

    fn finish(&mut self, _: &mut dyn Sink) {
        self.assembly.drop_open();
    }

    fn counts(&self) -> Counts {
        self.assembly.counts
    }
}

/// RFC 6184 section 5.8. An FU whose type changes midway (Tiandy) keeps the type with which it began. A unit that is begun and
/// ended by one packet is forbidden, but complete.
fn fragment(assembly: &mut Assembly, indicator: u8, packet: Packet<'_>, sink: &mut dyn Sink) {
    let Some((&fu, body)) = packet.payload.get(1..).and_then(<[u8]>::split_first) else {
        assembly.counts.broken_units += 1;
        return;
    };
    let (start, end) = (fu & 0x80 != 0, fu & 0x40 != 0);
    if start {
        assembly.begin(&[indicator & 0xe0 | fu & 0x1f], packet.timestamp);
    } else if !assembly.open && end {
        assembly.end_alone(packet.timestamp);
    }
    assembly.append(body);
    if end {
        assembly.end(sink);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{RtpTimestamp, Unit};
    use super::*;

    fn run(packets: &[(&[u8], bool)]) -> (Vec<Vec<u8>>, Counts) {
        let mut h264 = H264::default();
        let mut units = Vec::new();
        let mut sink = |u: Unit<'_>| units.push(u.bytes.to_vec());
        for (payload, gap_before) in packets {
            let packet =
                Packet { payload, timestamp: RtpTimestamp(1), marker: false, gap_before: *gap_before };
            h264.handle(packet, &mut sink);
        }
        h264.finish(&mut sink);
        (units, h264.counts())
    }

    #[test]
    fn single_aggregated_and_fragmented() {
        let (units, counts) = run(&[
            (&[0x67, 1, 2], false),
            (&[0x78, 0, 2, 0x68, 3, 0, 1, 0x06], false),
            (&[0x7c, 0x85, 4, 5], false),
            (&[0x7c, 0x05], false),
            (&[0x7c, 0x45, 6], false),
        ]);
        assert_eq!(units, [&[0x67, 1, 2][..], &[0x68, 3], &[0x06], &[0x65, 4, 5, 6]]);
        assert_eq!((counts.units, counts.broken_units, counts.packets), (4, 0, 5));
    }

    #[test]
    fn a_gap_drops_the_unit_and_no_other() {
        let (units, counts) = run(&[
            (&[0x7c, 0x85, 4], false),
            (&[0x7c, 0x45, 6], true),
            (&[0x41, 9], false),
            (&[0x7c, 0x81, 1], false),
            (&[0x41, 8], true),
            (&[0x7c, 0x81, 7], false),
        ]);
        assert_eq!(units, [[0x41, 9], [0x41, 8]]);
        assert_eq!(counts.broken_units, 3);
    }

    #[test]
    fn every_broken_unit_counts_once() {
        // One lacks its middle, the next its beginning, the third its end and the fourth, after it, its beginning.
        let mut h264 = H264::default();
        let mut sink = |_: Unit<'_>| {};
        for (timestamp, fu, gap_before) in [
            (1, 0x81, false),
            (1, 0x01, true),
            (1, 0x41, false),
            (2, 0x41, true),
            (3, 0x81, false),
            (4, 0x01, true),
            (4, 0x41, false),
        ] {
            let payload = &[0x7c, fu, 9];
            h264.handle(
                Packet { payload, timestamp: RtpTimestamp(timestamp), marker: false, gap_before },
                &mut sink,
            );
        }
        assert_eq!((h264.counts().units, h264.counts().broken_units), (0, 4));
    }

    #[test]
    fn quirk_fu_changes_its_type_midway() {
        // Tiandy
        let (units, _) =
            run(&[(&[0x7c, 0x85, 1], false), (&[0x7c, 0x01, 2], false), (&[0x7c, 0x41, 3], false)]);
        assert_eq!(units, [[0x65, 1, 2, 3]]);
    }

    #[test]
    fn interleaved_mode_is_counted() {
        let (units, counts) = run(&[(&[0x7a, 1, 2, 3, 4], false), (&[0x7d, 0x85, 0, 1, 2], false)]);
        assert_eq!((units.len(), counts.unsupported_packets), (0, 2));
    }

    #[test]
    fn aggregate_cut_short() {
        let (units, counts) = run(&[(&[0x78, 0, 1, 0x06, 0, 9, 1], false)]);
        assert_eq!((units.len(), counts.broken_units), (1, 1));
    }
}
