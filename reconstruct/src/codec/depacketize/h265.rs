//! H.265 (RFC 7798): single NAL units, AP, FU, without DONL fields. PACI is refused and counted.

use super::super::h265::{AP, FU, nal_type};
use super::{Assembly, Counts, Depacketizer, Packet, Sink, split_aggregate};

/// NAL units out of H.265's payload format.
#[derive(Debug, Clone, Default)]
pub struct H265 {
    assembly: Assembly,
}

impl Depacketizer for H265 {
    fn handle(&mut self, packet: Packet<'_>, sink: &mut dyn Sink) {
        let assembly = &mut self.assembly;
        assembly.counts.packets += 1;
        if packet.gap_before {
            assembly.drop_open();
        }
        let Some((header, body)) = packet.payload.split_first_chunk::<2>() else { return };
        match nal_type(header[0]) {
            0..=47 => {
                assembly.drop_open();
                assembly.give(packet.payload, packet.timestamp, sink);
            }
            AP => {
                assembly.drop_open();
                split_aggregate(assembly, body, packet.timestamp, sink);
            }
            FU => fragment(assembly, *header, body, packet, sink),
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

/// RFC 7798 section 4.4.3: layer and temporal id are the payload header's, the type the FU header's.
fn fragment(assembly: &mut Assembly, header: [u8; 2], body: &[u8], packet: Packet<'_>, sink: &mut dyn Sink) {
    let Some((&fu, body)) = body.split_first() else {
        assembly.counts.broken_units += 1;
        return;
    };
    let (start, end) = (fu & 0x80 != 0, fu & 0x40 != 0);
    if start {
        assembly.begin(&[header[0] & 0x81 | (fu & 0x3f) << 1, header[1]], packet.timestamp);
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

    #[test]
    fn single_aggregated_and_fragmented() {
        let mut h265 = H265::default();
        let mut units = Vec::new();
        let mut sink = |u: Unit<'_>| units.push(u.bytes.to_vec());
        let packets: [&[u8]; 5] = [
            &[0x40, 1, 9],
            &[0x60, 1, 0, 3, 0x42, 1, 7, 0, 2, 0x44, 1],
            &[0x62, 1, 0x93, 4],
            &[0x62, 1, 0x13, 5],
            &[0x62, 1, 0x53, 6],
        ];
        for payload in packets {
            let packet = Packet { payload, timestamp: RtpTimestamp(1), marker: false, gap_before: false };
            h265.handle(packet, &mut sink);
        }
        h265.finish(&mut sink);
        assert_eq!(units, [&[0x40, 1, 9][..], &[0x42, 1, 7], &[0x44, 1], &[0x26, 1, 4, 5, 6]]);
        assert_eq!(h265.counts().broken_units, 0);
    }
}
