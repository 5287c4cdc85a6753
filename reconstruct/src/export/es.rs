//! Elementary streams: H.264 and H.265 as Annex B, AAC as ADTS, JPEG pictures, raw samples.
//!
//! Owns the way from RTP packets in sequence order to bytes. What of a unit is missing drops the unit, never a neighbour, and
//! is counted. Parameter sets that only the description has are written before the first picture, so that the file plays.

use std::io::Write;

use super::ExportError;
use crate::codec::depacketize::{Counts, Depacketizer, Packet, Sink, Unit, depacketizer};
use crate::codec::{Codec, h264, h265};
use crate::footage::{FootageError, MediaPacket, StreamInfo};
use crate::index::SegmentId;
use crate::rtp::RtpPacket;
use crate::sdp::{self, AacConfig, Media};

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct EsReport {
    /// RTP packets read.
    pub packets: u64,
    /// Places where RTP packets are missing.
    pub gaps: u64,
    /// Packets whose header makes no sense, or that were captured cut.
    pub damaged_packets: u64,
    /// Coded units written.
    pub units: u64,
    /// Coded units left out because a part of them is missing.
    pub broken_units: u64,
    /// Packets in a packing that is not supported.
    pub unsupported_packets: u64,
    /// Packets of other payload types, which do not carry the stream's codec.
    pub other_packets: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// Writes the elementary stream of `packets`, which are `stream`'s and in sequence order; its segments began with these payload types.
pub fn write(
    stream: &StreamInfo,
    began: impl Fn(SegmentId) -> Option<u8>,
    packets: impl Iterator<Item = Result<MediaPacket, FootageError>>,
    out: &mut dyn Write,
) -> Result<EsReport, ExportError> {
    if stream.encrypted {
        return Err(ExportError::Encrypted);
    }
    let codec = stream.codec.ok_or(ExportError::CodecUnknown)?;
    let aac = stream.fmtp.as_deref().and_then(AacConfig::from_fmtp);
    let mut writer = match (codec, stream.fmtp.as_deref().and_then(sdp::mpeg4_headers)) {
        (Codec::Mpeg4, Some(headers)) => EsWriter::new(codec, aac, &[headers])?,
        _ => EsWriter::new(codec, aac, &stream.parameter_sets)?,
    };
    let media = stream.sdp_media.as_deref().and_then(Media::parse);
    let mut scratch = Vec::new();
    for packet in packets {
        let packet = packet?;
        let bytes = match &packet.pieces[..] {
            [whole] => &whole[..],
            pieces => {
                scratch.clear();
                pieces.iter().for_each(|piece| scratch.extend_from_slice(piece));
                &scratch[..]
            }
        };
        let began = began(packet.segment).unwrap_or(stream.payload_type);
        let carries = |seen| sdp::carries(codec, began, media.as_ref(), seen);
        writer.handle(packet.segment.0, packet.seq, bytes, packet.len as usize, carries);
        writer.drain(out)?;
    }
    writer.finish(out)
}

/// The pure part: packets in, bytes out.
pub struct EsWriter {
    depacketizer: Box<dyn Depacketizer + Send>,
    framing: Framing,
    last: Option<(u32, u64)>,
    /// SSRC and sequence number of the last packet.
    last_header: Option<(u32, u16)>,
    /// Packets are missing before the next one of the codec.
    gap_before: bool,
    report: EsReport,
}

/// How units stand in the file.
struct Framing {
    codec: Codec,
    /// Written before the first picture, unless the stream has its own by then.
    parameter_sets: Option<Vec<Vec<u8>>>,
    bytes: Vec<u8>,
}

impl EsWriter {
    /// For a codec; AAC needs its configuration.
    pub fn new(
        codec: Codec,
        aac: Option<AacConfig>,
        parameter_sets: &[Vec<u8>],
    ) -> Result<EsWriter, ExportError> {
        let none = match codec {
            Codec::Aac => ExportError::AacPacking,
            _ => ExportError::NoElementaryStream(codec),
        };
        let depacketizer = depacketizer(codec, aac).ok_or(none)?;
        let parameter_sets = Some(parameter_sets.to_vec()).filter(|sets| !sets.is_empty());
        let framing = Framing { codec, parameter_sets, bytes: Vec::new() };
        Ok(EsWriter {
            depacketizer,
            framing,
            last: None,
            last_header: None,
            gap_before: false,
            report: EsReport::default(),
        })
    }

    /// The next RTP packet of `wire_len` bytes, with its segment and its extended sequence number therein.
    /// `carries` says which payload types are of the codec.
    pub fn handle(
        &mut self,
        segment: u32,
        seq: u64,
        packet: &[u8],
        wire_len: usize,
        carries: impl Fn(u8) -> bool,
    ) {
        self.report.packets += 1;
        let parsed = RtpPacket::parse(packet, wire_len).ok().filter(|_| packet.len() >= wire_len);
        let header = parsed.as_ref().map(|rtp| (rtp.ssrc.0, rtp.sequence.0));
        let in_order = match (self.last, self.last_header, header) {
            (None, ..) => true,
            (Some((s, last)), ..) if s == segment => seq == last + 1,
            // The recorder was started anew, or a file ended, and the session went on.
            (_, Some((ssrc, last)), Some((other, number))) => ssrc == other && number == last.wrapping_add(1),
            _ => false,
        };
        // Another session is no gap, though its pictures do not follow on those before.
        let same = self.last.is_some_and(|(s, _)| s == segment);
        self.report.gaps += u64::from(same && !in_order);
        (self.last, self.last_header) = (Some((segment, seq)), header);
        let Some(rtp) = parsed else {
            self.report.damaged_packets += 1;
            // The next one has a gap before it, since this one's payload is not to be had.
            self.last = Some((segment, u64::MAX - 1));
            return;
        };
        if !carries(rtp.payload_type.get()) {
            self.report.other_packets += 1;
            self.gap_before |= !in_order;
            return;
        }
        let (payload, timestamp, marker) = (rtp.payload, rtp.timestamp, rtp.marker);
        let gap_before = std::mem::take(&mut self.gap_before) || !in_order;
        self.depacketizer.handle(Packet { payload, timestamp, marker, gap_before }, &mut self.framing);
    }

    /// Writes what is ready.
    pub fn drain(&mut self, out: &mut dyn Write) -> Result<(), ExportError> {
        out.write_all(&self.framing.bytes).map_err(ExportError::Write)?;
        self.report.bytes += self.framing.bytes.len() as u64;
        self.framing.bytes.clear();
        Ok(())
    }

    /// Writes the rest.
    pub fn finish(mut self, out: &mut dyn Write) -> Result<EsReport, ExportError> {
        self.depacketizer.finish(&mut self.framing);
        self.drain(out)?;
        out.flush().map_err(ExportError::Write)?;
        let Counts { units, broken_units, unsupported_packets, too_large, .. } = self.depacketizer.counts();
        Ok(EsReport { units, broken_units: broken_units + too_large, unsupported_packets, ..self.report })
    }
}

impl Sink for Framing {
    fn unit(&mut self, unit: Unit<'_>) {
        match self.codec {
            Codec::H264 => {
                let kind = h264::nal_type(unit.bytes[0]);
                self.nal(unit.bytes, kind == h264::SPS, matches!(kind, h264::SLICE..=h264::IDR));
            }
            Codec::H265 => {
                let kind = h265::nal_type(unit.bytes[0]);
                self.nal(unit.bytes, matches!(kind, h265::VPS | h265::SPS), kind < h265::VPS);
            }
            Codec::Mpeg4 => {
                // A sequence or a video object layer begins: the stream has headers of its own.
                let own = matches!(unit.bytes, [0, 0, 1, 0xb0 | 0x00..=0x2f, ..]);
                let sets = self.parameter_sets.take().filter(|_| !own);
                sets.iter().flatten().for_each(|headers| self.bytes.extend_from_slice(headers));
                self.bytes.extend_from_slice(unit.bytes);
            }
            _ => self.bytes.extend_from_slice(unit.bytes),
        }
    }
}

impl Framing {
    /// A NAL unit (never empty) in the byte stream format (H.264 and H.265, annex B).
    fn nal(&mut self, nal: &[u8], is_parameter_set: bool, is_picture: bool) {
        if is_parameter_set {
            self.parameter_sets = None;
        }
        if is_picture {
            for set in self.parameter_sets.take().iter().flatten() {
                self.annex_b(set);
            }
        }
        self.annex_b(nal);
    }

    fn annex_b(&mut self, nal: &[u8]) {
        self.bytes.extend_from_slice(&[0, 0, 0, 1]);
        self.bytes.extend_from_slice(nal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtp(seq: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80, 96, (seq >> 8) as u8, seq as u8, 0, 0, 0, 1, 0, 0, 0, 2];
        packet.extend_from_slice(payload);
        packet
    }

    fn export(packets: &[(u64, &[u8])], sets: &[Vec<u8>]) -> (Vec<u8>, EsReport) {
        let mut writer = EsWriter::new(Codec::H264, None, sets).unwrap();
        let mut out = Vec::new();
        for (seq, payload) in packets {
            let packet = rtp(*seq as u16, payload);
            writer.handle(0, *seq, &packet, packet.len(), |_| true);
            writer.drain(&mut out).unwrap();
        }
        let report = writer.finish(&mut out).unwrap();
        (out, report)
    }

    #[test]
    fn annex_b_with_the_descriptions_parameter_sets() {
        let sets = [vec![0x67, 1], vec![0x68, 2]];
        let (bytes, report) = export(&[(1, &[0x06, 5]), (2, &[0x65, 6])], &sets);
        assert_eq!(bytes, [0, 0, 0, 1, 6, 5, 0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 0, 1, 0x65, 6]);
        assert_eq!((report.units, report.bytes, report.gaps), (2, bytes.len() as u64, 0));
        let (bytes, _) = export(&[(1, &[0x67, 9]), (2, &[0x65, 6])], &sets);
        assert_eq!(bytes, [0, 0, 0, 1, 0x67, 9, 0, 0, 0, 1, 0x65, 6]);
    }

    #[test]
    fn a_gap_and_a_cut_packet_drop_their_unit_only() {
        let mut writer = EsWriter::new(Codec::H264, None, &[]).unwrap();
        let mut out = Vec::new();
        let packets: [(u64, &[u8], usize); 6] = [
            (1, &[0x7c, 0x81, 1], 0),
            (3, &[0x7c, 0x41, 2], 0),
            (4, &[0x41, 3], 0),
            (5, &[0x7c, 0x81, 4], 0),
            (6, &[0x7c, 0x01, 5], 100),
            (7, &[0x7c, 0x41, 6], 0),
        ];
        for (seq, payload, cut) in packets {
            let packet = rtp(seq as u16, payload);
            writer.handle(0, seq, &packet, packet.len() + cut, |_| true);
        }
        let report = writer.finish(&mut out).unwrap();
        assert_eq!(out, [0, 0, 0, 1, 0x41, 3]);
        assert_eq!((report.units, report.damaged_packets, report.gaps), (1, 1, 2));
        assert_eq!(report.broken_units, 2);
    }

    #[test]
    fn mpeg4_with_the_descriptions_headers() {
        let headers = sdp::mpeg4_headers("profile-level-id=1; config=000001B001000001B5").unwrap();
        assert_eq!(sdp::mpeg4_headers("config=1190"), None);
        let picture = [0, 0, 1, 0xb6, 9];
        let own = [0, 0, 1, 0xb0, 3, 0, 0, 1, 0xb6, 8];
        let written = |payloads: [&[u8]; 2]| {
            let mut writer = EsWriter::new(Codec::Mpeg4, None, std::slice::from_ref(&headers)).unwrap();
            let mut out = Vec::new();
            for (seq, payload) in (1..).zip(payloads) {
                let packet = rtp(seq as u16, payload);
                writer.handle(0, seq, &packet, packet.len(), |_| true);
            }
            writer.finish(&mut out).unwrap();
            out
        };
        assert_eq!(written([&picture, &picture]), [&headers[..], &picture, &picture].concat());
        assert_eq!(written([&own, &picture]), [&own[..], &picture].concat());
        assert_eq!(written([&[7, 7], &picture]), [&headers[..], &[7, 7], &picture].concat());
    }

    #[test]
    fn a_session_that_goes_on_in_another_segment_is_joined() {
        let mut writer = EsWriter::new(Codec::H264, None, &[]).unwrap();
        let mut out = Vec::new();
        let (a, b) = (rtp(65_535, &[0x7c, 0x81, 1]), rtp(0, &[0x7c, 0x41, 2]));
        writer.handle(0, 131_071, &a, a.len(), |_| true);
        writer.handle(1, 65_536, &b, b.len(), |_| true);
        assert_eq!(writer.finish(&mut out).unwrap().units, 1);
        assert_eq!(out, [0, 0, 0, 1, 0x61, 1, 2]);
    }

    #[test]
    fn no_unit_reaches_into_another_segment() {
        let mut writer = EsWriter::new(Codec::H264, None, &[]).unwrap();
        let mut out = Vec::new();
        let (a, b) = (rtp(1, &[0x7c, 0x81, 1]), rtp(3, &[0x7c, 0x41, 2]));
        writer.handle(0, 1, &a, a.len(), |_| true);
        writer.handle(1, 3, &b, b.len(), |_| true);
        assert_eq!(writer.finish(&mut out).unwrap().gaps, 0);
        assert!(out.is_empty());
    }

    #[test]
    fn what_other_payload_types_carry_is_left_out() {
        let mut writer = EsWriter::new(Codec::H264, None, &[]).unwrap();
        let mut out = Vec::new();
        // Error correction in the middle of a unit, and in the place of the packet before a hole.
        for (seq, payload_type, payload) in [
            (1, 96, [0x7c, 0x81, 1]),
            (2, 98, [9, 9, 9]),
            (3, 96, [0x7c, 0x41, 2]),
            (5, 98, [8, 8, 8]),
            (6, 96, [0x7c, 0x41, 3]),
        ] {
            let mut packet = rtp(seq, &payload);
            packet[1] = payload_type;
            writer.handle(0, seq.into(), &packet, packet.len(), |seen| seen == 96);
        }
        let report = writer.finish(&mut out).unwrap();
        assert_eq!(out, [0, 0, 0, 1, 0x61, 1, 2]);
        assert_eq!((report.units, report.other_packets, report.gaps, report.broken_units), (1, 2, 1, 1));
    }

    #[test]
    fn refused() {
        assert!(matches!(
            EsWriter::new(Codec::Opus, None, &[]),
            Err(ExportError::NoElementaryStream(Codec::Opus))
        ));
        assert!(matches!(EsWriter::new(Codec::Aac, None, &[]), Err(ExportError::AacPacking)));
    }
}
