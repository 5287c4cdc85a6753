//! Motion JPEG (RFC 2435): each picture given with the headers that RTP leaves out.
//!
//! The headers are the RFC's (appendices A and B), so a picture decodes to the same pixels as the camera's, but is not the
//! same file. Types 0 and 1, with and without restart markers, tables of 8 bits; others are refused and counted.

use super::{Assembly, Counts, Depacketizer, Packet, Sink};

/// Pictures out of JPEG's payload format.
#[derive(Debug, Clone, Default)]
pub struct Jpeg {
    assembly: Assembly,
    /// Scan bytes of the picture that is being put together; the next fragment's offset.
    scan_len: usize,
    /// Tables that a camera sends only once for a Q of 128 to 254 (RFC 2435 section 3.1.8).
    tables: Option<(u8, [u8; 128])>,
}

impl Depacketizer for Jpeg {
    fn handle(&mut self, packet: Packet<'_>, sink: &mut dyn Sink) {
        self.assembly.counts.packets += 1;
        if packet.gap_before || self.assembly.timestamp != packet.timestamp {
            self.assembly.drop_open();
        }
        let Some(fragment) = Fragment::parse(packet.payload) else {
            self.assembly.drop_open();
            self.assembly.counts.unsupported_packets += 1;
            return;
        };
        if fragment.offset == 0 {
            let Some(tables) = self.tables_of(&fragment) else {
                self.assembly.drop_open();
                self.assembly.counts.broken_units += 1;
                return;
            };
            self.assembly.begin(&header(&fragment, &tables), packet.timestamp);
            self.scan_len = 0;
        } else if fragment.offset != self.scan_len {
            self.assembly.drop_open();
        }
        if !self.assembly.open {
            if packet.marker && fragment.offset != 0 {
                self.assembly.end_alone(packet.timestamp);
            }
            return;
        }
        self.assembly.append(fragment.scan);
        self.scan_len += fragment.scan.len();
        if packet.marker {
            if !self.assembly.bytes.ends_with(&[0xff, 0xd9]) {
                self.assembly.append(&[0xff, 0xd9]);
            }
            self.assembly.end(sink);
        }
    }

    fn finish(&mut self, _: &mut dyn Sink) {
        self.assembly.drop_open();
    }

    fn counts(&self) -> Counts {
        self.assembly.counts
    }
}

impl Jpeg {
    fn tables_of(&mut self, fragment: &Fragment<'_>) -> Option<[u8; 128]> {
        if fragment.q < 128 {
            return scaled_tables(fragment.q);
        }
        if fragment.tables.is_empty() {
            return self.tables.filter(|(q, _)| *q == fragment.q && *q != 255).map(|(_, tables)| tables);
        }
        let mut tables = [0; 128];
        match fragment.tables.len() {
            // One table serves luma and chroma.
            64 => {
                tables[..64].copy_from_slice(fragment.tables);
                tables[64..].copy_from_slice(fragment.tables);
            }
            128 => tables.copy_from_slice(fragment.tables),
            _ => return None,
        }
        self.tables = Some((fragment.q, tables));
        Some(tables)
    }
}

/// A payload's headers (RFC 2435 section 3.1).
struct Fragment<'a> {
    offset: usize,
    kind: u8,
    q: u8,
    width: u16,
    height: u16,
    restart_interval: Option<u16>,
    /// Empty unless in the first fragment of a picture with Q of 128 or more.
    tables: &'a [u8],
    scan: &'a [u8],
}

impl<'a> Fragment<'a> {
    fn parse(payload: &'a [u8]) -> Option<Fragment<'a>> {
        let (main, mut rest) = payload.split_first_chunk::<8>()?;
        let [_, o1, o2, o3, kind, q, width, height] = *main;
        if !matches!(kind & 0x3f, 0 | 1) || kind >= 128 || q == 0 || width == 0 || height == 0 {
            return None;
        }
        let offset = usize::from(o1) << 16 | usize::from(o2) << 8 | usize::from(o3);
        let mut restart_interval = None;
        if kind >= 64 {
            let (restart, after) = rest.split_first_chunk::<4>()?;
            restart_interval = Some(u16::from_be_bytes([restart[0], restart[1]]));
            rest = after;
        }
        let mut tables: &[u8] = &[];
        if offset == 0 && q >= 128 {
            let (head, after) = rest.split_first_chunk::<4>()?;
            let (found, after) =
                after.split_at_checked(usize::from(u16::from_be_bytes([head[2], head[3]])))?;
            if head[1] != 0 {
                return None;
            }
            (tables, rest) = (found, after);
        }
        let (width, height) = (u16::from(width) * 8, u16::from(height) * 8);
        Some(Fragment { offset, kind, q, width, height, restart_interval, tables, scan: rest })
    }
}

/// RFC 2435 appendix A
fn scaled_tables(q: u8) -> Option<[u8; 128]> {
    if !(1..100).contains(&q) {
        return None;
    }
    let factor = u32::from(q);
    let scale = if factor < 50 { 5000 / factor } else { 200 - factor * 2 };
    let mut tables = [0; 128];
    for (scaled, base) in tables.iter_mut().zip(LUMA.iter().chain(&CHROMA)) {
        *scaled = ((u32::from(*base) * scale + 50) / 100).clamp(1, 255) as u8;
    }
    Some(tables)
}

/// RFC 2435 appendix B: what stands before the scan.
fn header(fragment: &Fragment<'_>, tables: &[u8; 128]) -> Vec<u8> {
    let mut h = vec![0xff, 0xd8];
    for (id, table) in tables.chunks(64).enumerate() {
        h.extend([0xff, 0xdb, 0, 67, id as u8]);
        h.extend(table);
    }
    if let Some(interval) = fragment.restart_interval {
        h.extend([0xff, 0xdd, 0, 4]);
        h.extend(interval.to_be_bytes());
    }
    h.extend([0xff, 0xc0, 0, 17, 8]);
    h.extend(fragment.height.to_be_bytes());
    h.extend(fragment.width.to_be_bytes());
    // Type 0 samples chroma 4:2:2, type 1 4:2:0.
    let luma_sampling = if fragment.kind & 1 == 0 { 0x21 } else { 0x22 };
    h.extend([3, 0, luma_sampling, 0, 1, 0x11, 1, 2, 0x11, 1]);
    for (class_and_id, lengths, values) in [
        (0x00, &DC_LUMA_LENGTHS, &DC_VALUES[..]),
        (0x10, &AC_LUMA_LENGTHS, &AC_LUMA_VALUES[..]),
        (0x01, &DC_CHROMA_LENGTHS, &DC_VALUES[..]),
        (0x11, &AC_CHROMA_LENGTHS, &AC_CHROMA_VALUES[..]),
    ] {
        h.extend([0xff, 0xc4, 0, (3 + 16 + values.len()) as u8, class_and_id]);
        h.extend(lengths);
        h.extend(values);
    }
    h.extend([0xff, 0xda, 0, 12, 3, 0, 0, 1, 0x11, 2, 0x11, 0, 63, 0]);
    h
}

/// RFC 2435 appendix A, in zig-zag order.
const LUMA: [u8; 64] = [
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40,
    58, 51, 61, 60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103,
    104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99,
];
const CHROMA: [u8; 64] = [
    17, 18, 18, 24, 21, 24, 47, 26, 26, 47, 99, 66, 56, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];

/// The Huffman tables of ITU-T T.81 annex K.3, as RFC 2435 appendix B has them.
const DC_LUMA_LENGTHS: [u8; 16] = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
const DC_CHROMA_LENGTHS: [u8; 16] = [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0];
const DC_VALUES: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
const AC_LUMA_LENGTHS: [u8; 16] = [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d];
const AC_LUMA_VALUES: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22,
    0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33,
    0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34,
    0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55,
    0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76,
    0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5,
    0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4,
    0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1,
    0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];
const AC_CHROMA_LENGTHS: [u8; 16] = [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77];
const AC_CHROMA_VALUES: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13,
    0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62,
    0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29,
    0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54,
    0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75,
    0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94,
    0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3,
    0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2,
    0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea,
    0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

#[cfg(test)]
mod tests {
    use super::super::{RtpTimestamp, Unit};
    use super::*;

    fn run(packets: &[(Vec<u8>, bool, bool)]) -> (Vec<Vec<u8>>, Counts) {
        let mut jpeg = Jpeg::default();
        let mut units = Vec::new();
        let mut sink = |u: Unit<'_>| units.push(u.bytes.to_vec());
        for (payload, marker, gap_before) in packets {
            let packet =
                Packet { payload, timestamp: RtpTimestamp(1), marker: *marker, gap_before: *gap_before };
            jpeg.handle(packet, &mut sink);
        }
        jpeg.finish(&mut sink);
        (units, jpeg.counts())
    }

    fn fragment(offset: u8, q: u8, scan: &[u8]) -> Vec<u8> {
        [&[0, 0, 0, offset, 1, q, 80, 60], scan].concat()
    }

    #[test]
    fn a_picture_in_two_packets() {
        let (units, counts) =
            run(&[(fragment(0, 50, &[1, 2, 3]), false, false), (fragment(3, 50, &[4, 5]), true, false)]);
        assert_eq!(counts.units, 1);
        assert!(
            units[0].starts_with(&[0xff, 0xd8, 0xff, 0xdb])
                && units[0].ends_with(&[1, 2, 3, 4, 5, 0xff, 0xd9])
        );
        // Q 50 is the tables as they stand.
        assert_eq!(units[0][7..71], LUMA);
    }

    #[test]
    fn tables_in_band_and_remembered() {
        let mut tables = vec![0, 0, 0, 128];
        tables.extend(1..=128);
        tables.extend([7, 7]);
        let without = [0, 0, 0, 0, 9, 9];
        let (units, _) =
            run(&[(fragment(0, 200, &tables), true, false), (fragment(0, 200, &without), true, false)]);
        assert_eq!(units.len(), 2);
        assert_eq!(units[0][7..71], units[1][7..71]);
        assert_eq!(units[1][7], 1);
    }

    #[test]
    fn a_gap_drops_the_picture() {
        let (units, counts) = run(&[
            (fragment(0, 50, &[1, 2, 3]), false, false),
            (fragment(6, 50, &[4, 5]), true, true),
            (fragment(0, 50, &[1]), true, false),
            (vec![0, 0, 0, 0, 2, 50, 80, 60, 1], true, false),
        ]);
        assert_eq!((units.len(), counts.unsupported_packets), (1, 1));
        assert_eq!(counts.broken_units, 1);
    }
}
