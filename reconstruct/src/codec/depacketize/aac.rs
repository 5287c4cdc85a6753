//! AAC in `mpeg4-generic` (RFC 3640), each access unit given as an ADTS frame (ISO 13818-7 section 6.2).
//!
//! An access unit may be spread over packets, or packets hold several; both as AAC-hbr and AAC-lbr have it. Interleaving (an
//! AU-Index other than 0) is refused and counted.

use super::{Assembly, Counts, Depacketizer, Packet, Sink};
use crate::sdp::AacConfig;

/// Access units of one packet that are read.
const MAX_UNITS: usize = 64;
/// ADTS's frame length has 13 bits and counts its own header.
const ADTS_HEADER: usize = 7;
const MAX_FRAME: usize = (1 << 13) - 1 - ADTS_HEADER;

/// ADTS frames out of AAC's payload format.
#[derive(Debug, Clone)]
pub struct Aac {
    config: AacConfig,
    adts: Adts,
    assembly: Assembly,
    /// Bytes that the access unit that is being put together still lacks; 0 when none is.
    lacking: usize,
}

/// What an ADTS header says the same in every frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Adts {
    profile: u8,
    frequency_index: u8,
    channels: u8,
}

impl Adts {
    /// From an AudioSpecificConfig (ISO 14496-3 section 1.6.2.1). `None` for what ADTS can't say.
    fn from_config(config: &[u8]) -> Option<Adts> {
        let head = u16::from_be_bytes(*config.first_chunk()?);
        let (object_type, frequency_index, channels) =
            ((head >> 11) as u8, (head >> 7 & 15) as u8, (head >> 3 & 15) as u8);
        // SBR and PS announce themselves by 5 and 29; their core is AAC-LC and stands in the frames.
        let object_type = if matches!(object_type, 5 | 29) { 2 } else { object_type };
        let sayable = (1..=4).contains(&object_type) && frequency_index < 13 && (1..=7).contains(&channels);
        sayable.then_some(Adts { profile: object_type - 1, frequency_index, channels })
    }

    fn header(self, frame_len: usize) -> [u8; ADTS_HEADER] {
        let len = frame_len + ADTS_HEADER;
        [
            0xff,
            0xf1,
            self.profile << 6 | self.frequency_index << 2 | self.channels >> 2,
            self.channels << 6 | (len >> 11) as u8,
            (len >> 3) as u8,
            (len << 5) as u8 | 0x1f,
            0xfc,
        ]
    }
}

impl Aac {
    /// `None` for a configuration that ADTS can't express or whose lengths are impossible.
    pub fn new(config: AacConfig) -> Option<Aac> {
        let adts = Adts::from_config(&config.config)?;
        let possible = (1..=16).contains(&config.size_length)
            && config.index_length <= 16
            && config.index_delta_length <= 16;
        possible.then(|| Aac { config, adts, assembly: Assembly::default(), lacking: 0 })
    }

    /// Sizes of the packet's access units, and where their bytes begin. `None` if the headers are no such.
    fn headers(&self, payload: &[u8]) -> Option<(Vec<usize>, usize)> {
        let header_bits = usize::from(u16::from_be_bytes(*payload.first_chunk()?));
        let end = 2 + header_bits.div_ceil(8);
        let mut sizes = Vec::new();
        let mut left = header_bits;
        let bytes = payload.get(2..end)?;
        let mut at = 0;
        while left > 0 && sizes.len() < MAX_UNITS {
            let index_bits =
                if sizes.is_empty() { self.config.index_length } else { self.config.index_delta_length };
            let bits = usize::from(self.config.size_length + index_bits);
            left = left.checked_sub(bits)?;
            let size = read(bytes, at, self.config.size_length)?;
            if read(bytes, at + usize::from(self.config.size_length), index_bits)? != 0 {
                return None;
            }
            at += bits;
            sizes.push(size);
        }
        (left == 0 && !sizes.is_empty()).then_some((sizes, end))
    }

    fn begin(&mut self, size: usize, packet: &Packet<'_>) {
        self.assembly.begin(&self.adts.header(size), packet.timestamp);
        self.lacking = size;
    }

    fn drop_open(&mut self) {
        self.assembly.drop_open();
        self.lacking = 0;
    }
}

/// `n` bits from bit `at` on.
fn read(bytes: &[u8], at: usize, n: u8) -> Option<usize> {
    (at..at + usize::from(n))
        .try_fold(0, |value, i| Some(value << 1 | usize::from(bytes.get(i / 8)? >> (7 - i % 8) & 1)))
}

impl Depacketizer for Aac {
    fn handle(&mut self, packet: Packet<'_>, sink: &mut dyn Sink) {
        self.assembly.counts.packets += 1;
        if packet.gap_before {
            self.drop_open();
        }
        if packet.payload.is_empty() {
            return;
        }
        let Some((sizes, body_at)) = self.headers(packet.payload) else {
            self.drop_open();
            self.assembly.counts.unsupported_packets += 1;
            return;
        };
        let mut body = &packet.payload[body_at..];
        for (i, &size) in sizes.iter().enumerate() {
            if size == 0 {
                continue;
            }
            if size > MAX_FRAME {
                self.drop_open();
                self.assembly.counts.too_large += 1;
                return;
            }
            // A fragment repeats the whole unit's size (RFC 3640 section 3.2.3.1).
            let goes_on = i == 0 && self.lacking > 0 && self.assembly.timestamp == packet.timestamp;
            if !goes_on {
                self.begin(size, &packet);
            }
            let part = body.len().min(self.lacking);
            self.assembly.append(&body[..part]);
            body = &body[part..];
            self.lacking -= part;
            if self.lacking == 0 {
                self.assembly.end(sink);
            } else if sizes.len() > 1 {
                // Only a unit that is alone in its packets may be spread over several.
                self.drop_open();
                return;
            }
        }
    }

    fn finish(&mut self, _: &mut dyn Sink) {
        self.drop_open();
    }

    fn counts(&self) -> Counts {
        self.assembly.counts
    }
}

#[cfg(test)]
mod tests {
    use super::super::{RtpTimestamp, Unit};
    use super::*;

    fn hbr() -> AacConfig {
        AacConfig { config: vec![0x14, 0x10], size_length: 13, index_length: 3, index_delta_length: 3 }
    }

    fn run(packets: &[(Vec<u8>, u32, bool)]) -> (Vec<Vec<u8>>, Counts) {
        let mut aac = Aac::new(hbr()).unwrap();
        let mut units = Vec::new();
        let mut sink = |u: Unit<'_>| units.push(u.bytes.to_vec());
        for (payload, timestamp, gap_before) in packets {
            let packet = Packet {
                payload,
                timestamp: RtpTimestamp(*timestamp),
                marker: true,
                gap_before: *gap_before,
            };
            aac.handle(packet, &mut sink);
        }
        aac.finish(&mut sink);
        (units, aac.counts())
    }

    fn header(size: usize) -> [u8; 2] {
        ((size << 3) as u16).to_be_bytes()
    }

    #[test]
    fn two_units_in_a_packet() {
        let payload = [&[0, 32][..], &header(3), &header(2), &[1, 2, 3, 4, 5]].concat();
        let (units, counts) = run(&[(payload, 0, false)]);
        assert_eq!(units.len(), 2);
        // LC, index 8 (16 kHz), 2 channels, 10 bytes
        assert_eq!(units[0], [0xff, 0xf1, 0x60, 0x80, 0x01, 0x5f, 0xfc, 1, 2, 3]);
        assert_eq!(units[1][7..], [4, 5]);
        assert_eq!(counts.units, 2);
    }

    #[test]
    fn a_unit_in_two_packets_and_one_with_a_gap() {
        let part = |bytes: &[u8]| [&[0, 16][..], &header(4), bytes].concat();
        let (units, counts) = run(&[
            (part(&[1, 2]), 0, false),
            (part(&[3, 4]), 0, false),
            (part(&[5, 6]), 9, false),
            (part(&[7, 8, 9, 10]), 18, true),
        ]);
        assert_eq!((units.len(), counts.broken_units), (2, 1));
        assert_eq!((&units[0][7..], &units[1][7..]), (&[1, 2, 3, 4][..], &[7, 8, 9, 10][..]));
    }

    #[test]
    fn nonsense_is_counted() {
        let (units, counts) =
            run(&[(vec![0, 16, 0], 0, false), (vec![0xff; 20], 0, false), (vec![0, 16, 0, 9, 1], 0, false)]);
        assert_eq!((units.len(), counts.unsupported_packets), (0, 3));
        assert!(Aac::new(AacConfig { config: vec![0xff, 0xff], ..hbr() }).is_none());
    }
}
