//! The pcapng format (draft-ietf-opsawg-pcapng): sections of either byte order, any number of interfaces with time
//! resolutions of their own, enhanced, simple and obsolete packet blocks; other blocks are passed over.

use super::{DamageKind, Field, FileInterface, MAX_BLOCK_LEN, MAX_INTERFACES, MAX_PACKET_LEN, Parsed, Step};
use crate::{CaptureTime, LinkType};

pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const INTERFACE_DESCRIPTION: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// A block's type, its length, and its length again at the end.
const FRAME_LEN: usize = 12;

const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const IF_TSOFFSET: u16 = 14;

#[derive(Debug, Default)]
pub(super) struct Pcapng {
    big_endian: bool,
    /// The current section's interfaces.
    interfaces: Vec<Interface>,
    /// How many interfaces earlier sections had: a section numbers its own from 0.
    base: u32,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    snaplen: u32,
    resolution: Resolution,
    offset_secs: i64,
}

/// What a time stamp counts (option `if_tsresol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    /// 10^-n seconds.
    Decimal(u32),
    /// 2^-n seconds.
    Binary(u32),
}

impl Resolution {
    fn nanos(self, units: u64) -> i64 {
        let units = u128::from(units);
        let nanos = match self {
            Self::Decimal(n) if n <= 9 => units * 10u128.pow(9 - n),
            Self::Decimal(n) => units / 10u128.checked_pow(n - 9).unwrap_or(u128::MAX),
            Self::Binary(n) => (units * 1_000_000_000) >> n.min(127),
        };
        i64::try_from(nanos).unwrap_or(i64::MAX)
    }
}

impl Pcapng {
    pub(super) fn next<'a>(&mut self, input: &'a [u8]) -> Parsed<'a> {
        let Some(head) = input.first_chunk::<FRAME_LEN>() else { return Ok((0, Step::NeedMore(FRAME_LEN))) };
        if head[..4] == SECTION_HEADER.to_be_bytes() {
            let magic = [head[8], head[9], head[10], head[11]];
            self.big_endian = match (u32::from_be_bytes(magic), u32::from_le_bytes(magic)) {
                (BYTE_ORDER_MAGIC, _) => true,
                (_, BYTE_ORDER_MAGIC) => false,
                _ => return Err(DamageKind::NotACapture { magic }),
            };
        }
        let (kind, len) = (self.u32(head, 0), self.u32(head, 4) as usize);
        if !(FRAME_LEN..=MAX_BLOCK_LEN).contains(&len) || !len.is_multiple_of(4) {
            return Err(DamageKind::Length { length: len as u64, of: Field::Block });
        }
        let Some(block) = input.get(..len) else { return Ok((0, Step::NeedMore(len))) };
        if self.u32(block, len - 4) as usize != len {
            return Err(DamageKind::Length { length: u64::from(self.u32(block, len - 4)), of: Field::Block });
        }
        let body = &block[8..len - 4];
        let step = match kind {
            SECTION_HEADER => self.section(body)?,
            INTERFACE_DESCRIPTION => self.interface(body)?,
            ENHANCED_PACKET => self.enhanced_packet(body)?,
            PACKET => self.obsolete_packet(body)?,
            SIMPLE_PACKET => self.simple_packet(body)?,
            _ => Step::Skip,
        };
        Ok((len, step))
    }

    fn section(&mut self, body: &[u8]) -> Result<Step<'static>, DamageKind> {
        self.need(body, 16)?;
        let (major, minor) = (self.u16(body, 4), self.u16(body, 6));
        // Minor version 2 has the same layout (draft-ietf-opsawg-pcapng section 4.1).
        if major != 1 || !matches!(minor, 0 | 2) {
            return Err(DamageKind::Version { major, minor });
        }
        self.base += self.interfaces.len() as u32;
        self.interfaces.clear();
        Ok(Step::Skip)
    }

    fn interface(&mut self, body: &[u8]) -> Result<Step<'static>, DamageKind> {
        self.need(body, 8)?;
        if self.base as usize + self.interfaces.len() >= MAX_INTERFACES {
            return Err(DamageKind::TooManyInterfaces);
        }
        let (link, snaplen) = (LinkType(self.u16(body, 0)), self.u32(body, 4));
        let mut interface = Interface { snaplen, resolution: Resolution::Decimal(6), offset_secs: 0 };
        let mut name = None;
        for (code, value) in self.options(&body[8..]) {
            match (code, value) {
                (IF_NAME, text) => name = Some(String::from_utf8_lossy(text).into_owned()),
                (IF_TSRESOL, [r, ..]) if r & 0x80 != 0 => {
                    interface.resolution = Resolution::Binary(u32::from(r & 0x7f))
                }
                (IF_TSRESOL, [r, ..]) => interface.resolution = Resolution::Decimal(u32::from(*r)),
                (IF_TSOFFSET, v) if v.len() >= 8 => {
                    let (first, second) = (u64::from(self.u32(v, 0)), u64::from(self.u32(v, 4)));
                    let bits = if self.big_endian { first << 32 | second } else { second << 32 | first };
                    interface.offset_secs = bits.cast_signed();
                }
                _ => {}
            }
        }
        self.interfaces.push(interface);
        Ok(Step::Interface(FileInterface { link, snaplen, name }))
    }

    fn enhanced_packet<'a>(&self, body: &'a [u8]) -> Result<Step<'a>, DamageKind> {
        self.need(body, 20)?;
        let units = u64::from(self.u32(body, 4)) << 32 | u64::from(self.u32(body, 8));
        self.packet(self.u32(body, 0), units, self.u32(body, 12), self.u32(body, 16), &body[20..])
    }

    fn obsolete_packet<'a>(&self, body: &'a [u8]) -> Result<Step<'a>, DamageKind> {
        self.need(body, 20)?;
        let units = u64::from(self.u32(body, 4)) << 32 | u64::from(self.u32(body, 8));
        self.packet(u32::from(self.u16(body, 0)), units, self.u32(body, 12), self.u32(body, 16), &body[20..])
    }

    /// Simple packets belong to the first interface and have no time: they get the epoch, which says so.
    fn simple_packet<'a>(&self, body: &'a [u8]) -> Result<Step<'a>, DamageKind> {
        self.need(body, 4)?;
        let first = self.interfaces.first().ok_or(DamageKind::UnknownInterface { number: 0 })?;
        let original_len = self.u32(body, 0);
        let limit = if first.snaplen == 0 { u32::MAX } else { first.snaplen };
        let captured_len = original_len.min(limit).min((body.len() - 4) as u32);
        self.packet(0, 0, captured_len, original_len, &body[4..])
    }

    fn packet<'a>(
        &self,
        number: u32,
        units: u64,
        captured_len: u32,
        original_len: u32,
        rest: &'a [u8],
    ) -> Result<Step<'a>, DamageKind> {
        let interface =
            self.interfaces.get(number as usize).ok_or(DamageKind::UnknownInterface { number })?;
        let data = rest
            .get(..captured_len as usize)
            .filter(|_| captured_len <= MAX_PACKET_LEN)
            .ok_or(DamageKind::Length { length: u64::from(captured_len), of: Field::Captured })?;
        let time = CaptureTime::from_secs_nanos(interface.offset_secs, interface.resolution.nanos(units));
        Ok(Step::Record {
            interface: self.base + number,
            time,
            original_len: original_len.max(captured_len),
            data,
        })
    }

    /// The options up to `opt_endofopt`; a cut option ends them.
    fn options<'a>(&self, mut rest: &'a [u8]) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let big_endian = self.big_endian;
        std::iter::from_fn(move || {
            let head = rest.first_chunk::<4>()?;
            let word =
                |a, b| if big_endian { u16::from_be_bytes([a, b]) } else { u16::from_le_bytes([a, b]) };
            let (code, len) = (word(head[0], head[1]), usize::from(word(head[2], head[3])));
            let value = rest.get(4..4 + len).filter(|_| code != 0)?;
            rest = rest.get(4 + len.next_multiple_of(4)..).unwrap_or_default();
            Some((code, value))
        })
    }

    fn need(&self, body: &[u8], len: usize) -> Result<(), DamageKind> {
        match body.len() >= len {
            true => Ok(()),
            false => Err(DamageKind::Length { length: (body.len() + FRAME_LEN) as u64, of: Field::Block }),
        }
    }

    fn u16(&self, bytes: &[u8], at: usize) -> u16 {
        let word = [bytes[at], bytes[at + 1]];
        if self.big_endian { u16::from_be_bytes(word) } else { u16::from_le_bytes(word) }
    }

    fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    }
}
