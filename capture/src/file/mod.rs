//! Capture files as bytes: pcap and pcapng, parsed without any I/O.
//!
//! Owns what the two formats say; refuses anything that it can't place exactly (a wrong length is damage at an offset, not
//! a guess). Costs a few nanoseconds a record: data is a view into the caller's buffer.

mod pcap;
mod pcapng;

use crate::{CaptureTime, LinkType};
use std::fmt;

/// No record or block may claim more than this many bytes: libpcap's own limit for a snapshot is 256 KiB, and GRO frames
/// stay under it; pcapng's option blocks (decryption secrets) can be larger, so this is the bound of a whole block.
pub const MAX_BLOCK_LEN: usize = 16 << 20;
/// The largest packet that is taken over, libpcap's `MAXIMUM_SNAPLEN`.
pub const MAX_PACKET_LEN: u32 = 262_144;
/// The most interfaces that a pcapng section may describe.
pub const MAX_INTERFACES: usize = 4_096;

/// An interface that the file describes: a pcap file has one, a pcapng section any number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInterface {
    /// Link type of its packets.
    pub link: LinkType,
    /// Longest capture of a packet in bytes; 0 when the file doesn't limit it.
    pub snaplen: u32,
    /// `if_name` option of pcapng, if given.
    pub name: Option<String>,
}

/// What the parser made of the next bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The next interface; they are numbered from 0 through the whole file, across pcapng sections.
    Interface(FileInterface),
    /// A packet.
    Record {
        /// Which of the [`Step::Interface`]s.
        interface: u32,
        /// When it was captured.
        time: CaptureTime,
        /// Length on the wire in bytes; `data` is shorter when the capture was cut by its snaplen.
        original_len: u32,
        /// The captured bytes.
        data: &'a [u8],
    },
    /// Something that is no packet: a header, a name resolution block, statistics.
    Skip,
    /// Nothing whole yet: call again with at least this many bytes from the same place.
    NeedMore(usize),
    /// The end of the file, at a boundary.
    End,
}

/// Where a file stopped making sense, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("at byte {offset}: {kind}")]
pub struct Damage {
    /// Offset in the file of the record or block that can't be read.
    pub offset: u64,
    /// What is wrong with it.
    pub kind: DamageKind,
}

/// What can be wrong with a capture file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum DamageKind {
    /// The file ends inside a record or block: `present` of `needed` bytes are there.
    Cut {
        /// Bytes that are there.
        present: u64,
        /// Bytes that the header promised.
        needed: u64,
    },
    /// Neither pcap's nor pcapng's magic number.
    NotACapture {
        /// The first bytes.
        magic: [u8; 4],
    },
    /// A version of the format that isn't known.
    Version {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// A length that can't be right.
    Length {
        /// The length as the file gives it.
        length: u64,
        /// Which length.
        of: Field,
    },
    /// A packet of an interface that was never described.
    UnknownInterface {
        /// Its number in the section.
        number: u32,
    },
    /// More interfaces than [`MAX_INTERFACES`].
    TooManyInterfaces,
    /// The file is empty.
    Empty,
    /// A capture time that pcap's 32-bit seconds can't hold: it would come out as another.
    Time,
    /// Neither a time nor a length: a file that was never written there, or lost what was.
    Zeroes,
}

/// The length that was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Field {
    /// Captured length of a packet.
    Captured,
    /// Total length of a block, or its repetition at the block's end.
    Block,
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { present, needed } => write!(f, "the file ends after {present} of {needed} bytes"),
            Self::NotACapture { magic } => write!(
                f,
                "neither pcap nor pcapng (it begins with {:02x} {:02x} {:02x} {:02x})",
                magic[0], magic[1], magic[2], magic[3]
            ),
            Self::Version { major, minor } => write!(f, "format version {major}.{minor} is not known"),
            Self::Length { length, of: Field::Captured } => {
                write!(f, "a captured length of {length} bytes can't be right")
            }
            Self::Length { length, of: Field::Block } => {
                write!(f, "a block length of {length} bytes can't be right")
            }
            Self::UnknownInterface { number } => {
                write!(f, "a packet of interface {number}, which was never described")
            }
            Self::TooManyInterfaces => write!(f, "more than {MAX_INTERFACES} interfaces"),
            Self::Empty => write!(f, "the file is empty"),
            Self::Zeroes => f.write_str("zeroes stand where a packet should"),
            Self::Time => write!(f, "a capture time before 1970 or after 2106, which can't be kept"),
        }
    }
}

/// Parses one capture file from its first byte; see [`FileParser::next`].
#[derive(Debug, Default)]
pub struct FileParser {
    offset: u64,
    consumed: usize,
    format: Format,
}

#[derive(Debug, Default)]
enum Format {
    #[default]
    Unknown,
    Pcap(pcap::Pcap),
    Pcapng(pcapng::Pcapng),
}

/// A step of one of the two formats and how many input bytes it used.
type Parsed<'a> = Result<(usize, Step<'a>), DamageKind>;

impl FileParser {
    /// The next step from `input`, which begins where the last step ended (skip [`consumed`](Self::consumed) bytes after each
    /// call). `eof`: no more bytes follow `input`. Damage is final: what was given before it stands.
    pub fn next<'a>(&mut self, input: &'a [u8], eof: bool) -> Result<Step<'a>, Damage> {
        self.consumed = 0;
        let parsed = match &mut self.format {
            Format::Unknown => self.recognise(input),
            Format::Pcap(p) => p.next(input),
            Format::Pcapng(p) => p.next(input),
        };
        let damage = |kind| Damage { offset: self.offset, kind };
        let (consumed, step) = parsed.map_err(damage)?;
        if let (Step::NeedMore(needed), true) = (&step, eof) {
            return match (input.len(), &self.format) {
                (0, Format::Unknown) => Err(damage(DamageKind::Empty)),
                (0, _) => Ok(Step::End),
                (present, _) => {
                    Err(damage(DamageKind::Cut { present: present as u64, needed: *needed as u64 }))
                }
            };
        }
        self.consumed = consumed;
        self.offset += consumed as u64;
        Ok(step)
    }

    /// How many bytes of its input the last call of [`next`](Self::next) used.
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// Offset in the file of the next byte to be parsed.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn recognise<'a>(&mut self, input: &'a [u8]) -> Parsed<'a> {
        let Some(magic) = input.first_chunk::<4>() else { return Ok((0, Step::NeedMore(4))) };
        if *magic == pcapng::SECTION_HEADER.to_be_bytes() {
            self.format = Format::Pcapng(pcapng::Pcapng::default());
            return Ok((0, Step::Skip));
        }
        let Some(header) = input.first_chunk::<{ pcap::FILE_HEADER_LEN }>() else {
            return match pcap::known(*magic) {
                true => Ok((0, Step::NeedMore(pcap::FILE_HEADER_LEN))),
                false => Err(DamageKind::NotACapture { magic: *magic }),
            };
        };
        let (pcap, interface) = pcap::Pcap::open(header)?;
        self.format = Format::Pcap(pcap);
        Ok((pcap::FILE_HEADER_LEN, Step::Interface(interface)))
    }
}

#[cfg(test)]
mod tests;
