//! Footage as files: the elementary stream, or the very packets.
//!
//! Owns what is written where; the reading is [`crate::footage`]'s, the payload formats' reverse [`crate::codec::depacketize`]'s.
//! Refuses re-encoding, and streams whose payload is encrypted. Costs: one packet and one coded unit in memory.

pub mod es;
pub mod pcap;

use std::io;

use capture::{LinkType, ReadError, StoreError};

use crate::codec::Codec;
use crate::footage::FootageError;

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The footage could not be read.
    #[error(transparent)]
    Footage(#[from] FootageError),
    /// A shard could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The output could not be written.
    #[error("writing the output: {0}")]
    Write(#[source] io::Error),
    /// Nothing is known of the codec.
    #[error("the stream's codec is not known; export its packets as pcap instead")]
    CodecUnknown,
    /// The codec has no elementary stream here, or its description lacks what is needed for one.
    #[error("{0} can't be written as an elementary stream; export its packets as pcap instead")]
    NoElementaryStream(Codec),
    /// AAC that is not packed as RFC 3640 says, or without its configuration.
    #[error(
        "this AAC can't be written as ADTS: its description has no mpeg4-generic configuration (MP4A-LATM has none); export its packets as pcap instead, or record it from `tapdeck serve`"
    )]
    AacPacking,
    /// SRTP.
    #[error("the stream is encrypted; export its packets as pcap instead")]
    Encrypted,
    /// A pcap file has one link type.
    #[error(
        "the stream was captured with link types {0:?} and {1:?}, and a pcap file has only one; narrow the time range"
    )]
    LinkTypes(LinkType, LinkType),
}
