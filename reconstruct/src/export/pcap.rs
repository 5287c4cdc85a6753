//! The very packets of a stream, as they were captured: bytes, lengths and times unaltered.
//!
//! Owns the writing of a nanosecond pcap file from the records of the stream's flows. A stream over UDP is its flow; of one
//! that is interleaved in TCP the whole direction of the connection is written, so that a reader can put the byte stream
//! together again. Each record is written once, in the order of capture, whichever taps captured them.
//! Refuses to mix link types.

use std::io::Write;
use std::time::Duration;

use capture::{CaptureTime, LinkType};

use super::ExportError;
use crate::footage::{Footage, Found, PacketFilter, Records, StreamInfo};

/// As large as any packet that is captured; a shard's own snaplen is at most this.
const SNAPLEN: u32 = 262_144;

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct PcapReport {
    /// Packets written.
    pub packets: u64,
    /// Bytes written, headers included.
    pub bytes: u64,
    /// Packets that retention deleted while they were to be read.
    pub gone: u64,
    /// Packets whose record is damaged, or missing with its shard's file.
    pub damaged: u64,
}

/// A stream begins when its first packet is complete; what that is spread over came this much earlier at the most.
const BEFORE: Duration = Duration::from_millis(200);

/// How long after the stream's last packet copies of it still come, and segments of its connection that were overtaken: they have nothing of
/// it that the stream counts, but a reader of the byte stream would miss them.
const AFTER: Duration = Duration::from_millis(200);

/// Writes the packets of `stream`'s flows from `from` up to and including `to`.
pub fn write(
    footage: &Footage,
    stream: &StreamInfo,
    from: CaptureTime,
    to: CaptureTime,
    out: &mut dyn Write,
) -> Result<PcapReport, ExportError> {
    // A flow's ports may have served another stream at another time.
    let from = stream.first.map_or(from, |first| first.minus(BEFORE).max(from));
    let to = stream.last.map_or(to, |last| last.plus(AFTER).min(to));
    let filter =
        PacketFilter { stream: Some(stream.id), from: Some(from), to: Some(to), ..PacketFilter::default() };
    let mut report = PcapReport::default();
    let mut link = None;
    let mut records = Records::default();
    for found in footage.packets(&filter)? {
        let found = found?;
        let (record, shard) = match records.read(footage.store(), found.shard, found.packet.offset)? {
            Found::Record(record, shard) => (record, shard),
            Found::Gone => {
                report.gone += 1;
                continue;
            }
            Found::Damaged => {
                report.damaged += 1;
                continue;
            }
        };
        // The index finds by the millisecond; the record has the exact time.
        if record.time >= from && record.time <= to {
            match link {
                None => {
                    report.bytes += put(out, &file_header(shard.link()))?;
                    link = Some(shard.link());
                }
                Some(link) if link != shard.link() => return Err(ExportError::LinkTypes(link, shard.link())),
                Some(_) => {}
            }
            report.bytes += put(out, &record_header(record.time, record.data.len(), record.original_len))?;
            report.bytes += put(out, &record.data)?;
            report.packets += 1;
        }
    }
    if link.is_none() {
        // An empty range is an empty file of pcap's kind, not no file.
        report.bytes += put(out, &file_header(LinkType::ETHERNET))?;
    }
    out.flush().map_err(ExportError::Write)?;
    Ok(report)
}

fn put(out: &mut dyn Write, bytes: &[u8]) -> Result<u64, ExportError> {
    out.write_all(bytes).map_err(ExportError::Write)?;
    Ok(bytes.len() as u64)
}

/// pcap's file header (draft-ietf-opsawg-pcap section 4), nanosecond magic, little endian.
fn file_header(link: LinkType) -> [u8; 24] {
    let mut header = [0; 24];
    header[0..4].copy_from_slice(&0xa1b2_3c4d_u32.to_le_bytes());
    header[4..6].copy_from_slice(&2u16.to_le_bytes());
    header[6..8].copy_from_slice(&4u16.to_le_bytes());
    header[16..20].copy_from_slice(&SNAPLEN.to_le_bytes());
    header[20..24].copy_from_slice(&u32::from(link.0).to_le_bytes());
    header
}

/// pcap's record header (section 5). Seconds are unsigned there: they wrap in 2106.
fn record_header(time: CaptureTime, captured_len: usize, original_len: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[0..4].copy_from_slice(&(time.nanos().div_euclid(1_000_000_000) as u32).to_le_bytes());
    header[4..8].copy_from_slice(&(time.nanos().rem_euclid(1_000_000_000) as u32).to_le_bytes());
    header[8..12].copy_from_slice(&(captured_len as u32).to_le_bytes());
    header[12..16].copy_from_slice(&original_len.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use capture::{FileParser, Step};

    #[test]
    fn what_is_written_is_read_again() {
        let time = CaptureTime::from_nanos(1_700_000_000_123_456_789);
        let mut file = file_header(LinkType::ETHERNET).to_vec();
        file.extend(record_header(time, 3, 60));
        file.extend(b"abc");
        let mut parser = FileParser::default();
        let mut at = 0;
        let mut seen = Vec::new();
        while at < file.len() {
            match parser.next(&file[at..], true).unwrap() {
                Step::Record { time, original_len, data, .. } => {
                    seen.push((time, original_len, data.to_vec()))
                }
                Step::NeedMore(_) => break,
                _ => {}
            }
            at += parser.consumed();
        }
        assert_eq!(seen, [(time, 60, b"abc".to_vec())]);
    }
}
