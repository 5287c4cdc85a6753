//! The pcap format (draft-ietf-opsawg-pcap), microseconds and nanoseconds, both byte orders, and the variant of some old
//! Linux systems with 8 more bytes in each record header ("modified", magic 0xa1b2cd34).

use super::{DamageKind, Field, FileInterface, MAX_PACKET_LEN, Parsed, Step};
use crate::{CaptureTime, LinkType};

pub(super) const FILE_HEADER_LEN: usize = 24;

const MICROS: u32 = 0xa1b2_c3d4;
const NANOS: u32 = 0xa1b2_3c4d;
const MODIFIED: u32 = 0xa1b2_cd34;

#[derive(Clone, Copy, Debug)]
pub(super) struct Pcap {
    big_endian: bool,
    nanos_per_unit: i64,
    header_len: usize,
}

/// Whether these are the first bytes of a pcap file.
pub(super) fn known(magic: [u8; 4]) -> bool {
    [u32::from_le_bytes(magic), u32::from_be_bytes(magic)]
        .iter()
        .any(|m| [MICROS, NANOS, MODIFIED].contains(m))
}

impl Pcap {
    pub(super) fn open(header: &[u8; FILE_HEADER_LEN]) -> Result<(Self, FileInterface), DamageKind> {
        let magic = [header[0], header[1], header[2], header[3]];
        let big_endian = matches!(u32::from_be_bytes(magic), MICROS | NANOS | MODIFIED);
        let (nanos_per_unit, header_len) = match u32::from_be_bytes(magic) {
            m if m == MICROS || m == MICROS.swap_bytes() => (1_000, 16),
            m if m == NANOS || m == NANOS.swap_bytes() => (1, 16),
            m if m == MODIFIED || m == MODIFIED.swap_bytes() => (1_000, 24),
            _ => return Err(DamageKind::NotACapture { magic }),
        };
        let this = Self { big_endian, nanos_per_unit, header_len };
        let version = this.u32(header, 4);
        // Two 16-bit fields: their order in the word turns with the byte order.
        let (major, minor) = match big_endian {
            true => ((version >> 16) as u16, version as u16),
            false => (version as u16, (version >> 16) as u16),
        };
        if major != 2 {
            return Err(DamageKind::Version { major, minor });
        }
        // The upper bits of the last word say whether frames end with a checksum: not the link type's.
        let link = LinkType(this.u32(header, 20) as u16);
        Ok((this, FileInterface { link, snaplen: this.u32(header, 16), name: None }))
    }

    pub(super) fn next<'a>(&mut self, input: &'a [u8]) -> Parsed<'a> {
        if input.len() < self.header_len {
            return Ok((0, Step::NeedMore(self.header_len)));
        }
        let captured_len = self.u32(input, 8);
        if captured_len > MAX_PACKET_LEN {
            return Err(DamageKind::Length { length: u64::from(captured_len), of: Field::Captured });
        }
        let end = self.header_len + captured_len as usize;
        let Some(data) = input.get(self.header_len..end) else { return Ok((0, Step::NeedMore(end))) };
        let time = CaptureTime::from_secs_nanos(
            i64::from(self.u32(input, 0)),
            i64::from(self.u32(input, 4)) * self.nanos_per_unit,
        );
        // Some writers leave the length on the wire at 0 or below the captured one; what is there was on the wire.
        let original_len = self.u32(input, 12).max(captured_len);
        Ok((end, Step::Record { interface: 0, time, original_len, data }))
    }

    fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    }
}
