//! Makes a track's packets one continuous RTP stream for the client: SSRC, sequence numbers, timestamps.
//!
//! Inside a segment nothing is renumbered but by a constant: a hole in the camera's numbers stays a hole in the client's.
//! Between segments (the camera reconnected, began with new numbers, footage is missing) numbering goes on with the next
//! number and the timestamp that belongs to the elapsed presentation time. Pure: packet facts in, 12 header bytes out.

use crate::source::Packet;
use std::num::NonZeroU32;

/// RFC 3550, section 5.1: the fixed part of the header.
pub const RTP_HEADER_LEN: usize = 12;
const NANOS: i128 = 1_000_000_000;
/// Header extension of the ONVIF replay profile (ONVIF Streaming Specification, 6.3).
const ONVIF_EXTENSION: u16 = 0xABAC;

/// The rewritten fixed header, and what of the original packet follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The fixed header to send.
    pub header: [u8; RTP_HEADER_LEN],
    /// Where the copied rest begins in the original packet.
    pub rest_from: usize,
    /// Extended number on the wire, for tests and counters.
    pub seq: u16,
    /// Timestamp on the wire.
    pub timestamp: u32,
}

/// Why a packet is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsendable {
    /// No RTP header: the packet was cut when it was captured.
    Cut,
    /// It belongs before what the client already has: its number is used up.
    TooLate,
}

/// The numbering of one track of one session, for the session's whole life.
#[derive(Clone, Debug)]
pub struct Rewriter {
    ssrc: u32,
    clock_rate: NonZeroU32,
    payload_type: u8,
    known_payload_types: Vec<u8>,
    /// Highest number given out, or the one before the first.
    last_seq: u16,
    last_timestamp: Option<u32>,
    /// Timestamp at presentation time 0 of the current play.
    origin: u32,
    segment: Option<Segment>,
    /// The relation of the timestamps being sent to presentation time, from the least delayed packet lately.
    anchor: Anchor,
    candidate: Option<(i64, Anchor)>,
    packets: u32,
    octets: u32,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    id: u32,
    /// Added to the camera's extended number, modulo 2^16.
    seq_offset: u16,
    /// Added to the camera's timestamp.
    timestamp_offset: u32,
    /// Lowest number that may still be sent in this segment.
    floor: u64,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    timestamp: u32,
    presentation_ns: i64,
}

impl Rewriter {
    /// `first_seq` and `origin` should be random (RFC 3550, section 5.1). Payload types in `known` pass unchanged; others
    /// become `payload_type`, the one that was described: cameras change theirs when they reconnect.
    pub fn new(
        ssrc: u32,
        first_seq: u16,
        origin: u32,
        clock_rate: NonZeroU32,
        payload_type: u8,
        known: Vec<u8>,
    ) -> Self {
        Self {
            ssrc,
            clock_rate,
            payload_type,
            known_payload_types: known,
            last_seq: first_seq.wrapping_sub(1),
            last_timestamp: None,
            origin,
            segment: None,
            anchor: Anchor { timestamp: origin, presentation_ns: 0 },
            candidate: None,
            packets: 0,
            octets: 0,
        }
    }

    /// A new PLAY begins: presentation time starts at 0 again, `elapsed_ns` of wall clock after the last one did.
    pub fn begin_play(&mut self, elapsed_ns: i64) {
        let mut origin = self.origin.wrapping_add(self.ticks(elapsed_ns));
        if let Some(last) = self.last_timestamp
            && !is_after(origin, last)
        {
            origin = last.wrapping_add(1);
        }
        self.origin = origin;
        self.segment = None;
        self.anchor = Anchor { timestamp: origin, presentation_ns: 0 };
        self.candidate = None;
    }

    /// The number that the next segment's first packet gets: `seq` of RTP-Info.
    pub fn next_seq(&self) -> u16 {
        self.last_seq.wrapping_add(1)
    }

    /// `rtptime` of RTP-Info, at presentation time `presentation_ns` of a play that has just begun.
    pub fn timestamp_at_start(&self, presentation_ns: i64) -> u32 {
        self.origin.wrapping_add(self.ticks(presentation_ns))
    }

    /// The timestamp of a moment, for sender reports; also takes up the drift of the camera's clock since the last call.
    pub fn report_timestamp(&mut self, presentation_ns: i64) -> u32 {
        if let Some((_, anchor)) = self.candidate.take() {
            self.anchor = anchor;
        }
        self.anchor
            .timestamp
            .wrapping_add(self.ticks(presentation_ns.saturating_sub(self.anchor.presentation_ns)))
    }

    /// The SSRC.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// RTP packets and payload bytes so far, modulo 2^32 as sender reports have them.
    pub fn sent(&self) -> (u32, u32) {
        (self.packets, self.octets)
    }

    /// The header for the packet. `presentation_ns` is its time since the start of this play.
    pub fn rewrite(&mut self, packet: &Packet, presentation_ns: i64) -> Result<Rewritten, Unsendable> {
        let original = OriginalHeader::read(packet).ok_or(Unsendable::Cut)?;
        let segment = match self.segment {
            Some(s) if s.id == packet.segment => s,
            _ => self.begin_segment(packet, presentation_ns),
        };
        if packet.seq < segment.floor {
            return Err(Unsendable::TooLate);
        }
        let seq = (packet.seq as u16).wrapping_add(segment.seq_offset);
        let timestamp = packet.timestamp.wrapping_add(segment.timestamp_offset);
        if (seq.wrapping_sub(self.last_seq) as i16) > 0 {
            self.last_seq = seq;
        }
        if self.last_timestamp.is_none_or(|last| is_after(timestamp, last)) {
            self.last_timestamp = Some(timestamp);
        }
        self.note_delay(timestamp, presentation_ns);
        let payload_type = self.payload_type_for(original.payload_type);
        let rest_from = original.rest_from;
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add((packet.len() - rest_from) as u32);
        let mut header = [0; RTP_HEADER_LEN];
        header[0] = original.first_byte;
        header[1] = (u8::from(packet.marker) << 7) | payload_type;
        header[2..4].copy_from_slice(&seq.to_be_bytes());
        header[4..8].copy_from_slice(&timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        Ok(Rewritten { header, rest_from, seq, timestamp })
    }

    fn begin_segment(&mut self, packet: &Packet, presentation_ns: i64) -> Segment {
        let mut timestamp = self.timestamp_at_start(presentation_ns);
        if let Some(last) = self.last_timestamp
            && !is_after(timestamp, last)
        {
            timestamp = last.wrapping_add(1);
        }
        let segment = Segment {
            id: packet.segment,
            seq_offset: self.next_seq().wrapping_sub(packet.seq as u16),
            timestamp_offset: timestamp.wrapping_sub(packet.timestamp),
            floor: packet.seq,
        };
        self.segment = Some(segment);
        self.anchor = Anchor { timestamp, presentation_ns };
        self.candidate = None;
        segment
    }

    /// Keeps the packet that came with the least delay since the last report: what came late says nothing of the clock.
    fn note_delay(&mut self, timestamp: u32, presentation_ns: i64) {
        let since_anchor = i128::from(timestamp.wrapping_sub(self.anchor.timestamp) as i32);
        let clock_ns = (since_anchor * NANOS / i128::from(self.clock_rate.get())) as i64;
        let delay = presentation_ns.saturating_sub(self.anchor.presentation_ns).saturating_sub(clock_ns);
        if self.candidate.is_none_or(|(least, _)| delay < least) {
            self.candidate = Some((delay, Anchor { timestamp, presentation_ns }));
        }
    }

    fn payload_type_for(&self, seen: u8) -> u8 {
        // Static types (below 96) mean the same to everyone: comfort noise within G.711 stays what it is. Who sends those does not change
        // their number; what it sends beside them is something else, such as key presses (RFC 4733).
        let stays = seen < 96 || self.payload_type < 96 || self.known_payload_types.contains(&seen);
        if stays { seen } else { self.payload_type }
    }

    fn ticks(&self, ns: i64) -> u32 {
        (i128::from(ns) * i128::from(self.clock_rate.get())).div_euclid(NANOS) as u32
    }
}

fn is_after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

struct OriginalHeader {
    first_byte: u8,
    payload_type: u8,
    rest_from: usize,
}

impl OriginalHeader {
    fn read(packet: &Packet) -> Option<Self> {
        let at = |i: usize| byte_at(packet, i);
        let first = at(0)?;
        let payload_type = at(1)? & 0x7f;
        at(RTP_HEADER_LEN - 1)?;
        let csrcs = usize::from(first & 0x0f) * 4;
        let extension = RTP_HEADER_LEN + csrcs;
        // The recording's own replay extension carries another server's times: never passed on as ours. Without CSRCs only:
        // the header is sent as 12 bytes followed by the rest.
        if first & 0x10 != 0 && csrcs == 0 {
            let profile = u16::from_be_bytes([at(extension)?, at(extension + 1)?]);
            let words = usize::from(u16::from_be_bytes([at(extension + 2)?, at(extension + 3)?]));
            let end = extension + 4 + words * 4;
            if profile == ONVIF_EXTENSION && end <= packet.len() {
                return Some(Self { first_byte: first & !0x10, payload_type, rest_from: end });
            }
        }
        Some(Self { first_byte: first, payload_type, rest_from: RTP_HEADER_LEN })
    }
}

fn byte_at(packet: &Packet, mut i: usize) -> Option<u8> {
    for piece in &packet.pieces {
        let piece = piece.as_ref();
        if i < piece.len() {
            return Some(piece[i]);
        }
        i -= piece.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::packet;
    use proptest::prelude::*;

    fn rewriter(first_seq: u16, origin: u32) -> Rewriter {
        Rewriter::new(0xdead_beef, first_seq, origin, NonZeroU32::new(90_000).expect("rate"), 96, vec![96])
    }

    const MS: i64 = 1_000_000;

    #[test]
    fn holes_stay_and_segments_join() {
        let mut w = rewriter(65_534, u32::MAX - 1000);
        let mut send = |segment, seq, ts, ms: i64| {
            let r = w.rewrite(&packet(segment, seq, ts, ms), ms * MS).expect("sent");
            (r.seq, r.timestamp)
        };
        let t0 = u32::MAX - 1000;
        assert_eq!(send(1, 70_000, 5_000, 0), (65_534, t0));
        assert_eq!(send(1, 70_001, 8_000, 33), (65_535, t0.wrapping_add(3000)));
        // 70_002 is missing, and stays missing across the wrap.
        assert_eq!(send(1, 70_003, 11_000, 66), (1, t0.wrapping_add(6000)));
        // Late by one, within the segment.
        assert_eq!(send(1, 70_002, 11_000, 67), (0, t0.wrapping_add(6000)));
        // The camera reconnects a second later: the next number, a second later.
        assert_eq!(send(2, 12, 900_000_000, 1066), (2, t0.wrapping_add(95_940)));
        assert_eq!(send(2, 13, 900_003_000, 1100), (3, t0.wrapping_add(98_940)));
    }

    #[test]
    fn a_packet_before_its_segments_first_is_not_sent() {
        let mut w = rewriter(1, 0);
        w.rewrite(&packet(1, 10, 0, 0), 0).expect("sent");
        w.rewrite(&packet(2, 500, 0, 1), MS).expect("sent");
        assert_eq!(w.rewrite(&packet(2, 499, 0, 2), 2 * MS), Err(Unsendable::TooLate));
    }

    #[test]
    fn time_never_goes_back_between_segments_and_plays() {
        let mut w = rewriter(1, 0);
        w.rewrite(&packet(1, 10, 0, 0), 0).expect("sent");
        let a = w.rewrite(&packet(1, 11, 90_000, 10), 10 * MS).expect("sent").timestamp;
        let b = w.rewrite(&packet(2, 1, 7, 20), 20 * MS).expect("sent").timestamp;
        assert_eq!(b, a + 1);
        w.begin_play(MS);
        assert_eq!((w.next_seq(), w.timestamp_at_start(0)), (4, b + 1));
        let c = w.rewrite(&packet(2, 1, 7, 0), 0).expect("sent");
        assert_eq!((c.seq, c.timestamp), (4, b + 1));
    }

    #[test]
    fn reports_follow_the_cameras_clock() {
        let mut w = rewriter(1, 0);
        // A camera whose clock runs 1 % fast.
        for i in 0..500u32 {
            w.rewrite(&packet(1, u64::from(i), i * 3636, i64::from(i) * 40), i64::from(i) * 40 * MS)
                .expect("sent");
            if i % 125 == 124 {
                let rtp = w.report_timestamp(i64::from(i) * 40 * MS);
                let sent = i * 3636;
                assert!(sent.abs_diff(rtp) < 5000, "{i}: {sent} {rtp}");
            }
        }
    }

    #[test]
    fn payload_types_and_the_onvif_extension() {
        let mut w = rewriter(1, 0);
        let mut p = packet(1, 1, 0, 0);
        let mut raw = vec![0x90, 99, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xAB, 0xAC, 0, 3];
        raw.extend([0xEE; 12]);
        raw.extend([1, 2, 3]);
        let (a, b) = raw.split_at(14);
        p.pieces = [a.to_vec(), b.to_vec()].into_iter().map(|v| bytes::Bytes::from(v).into()).collect();
        p.marker = true;
        let r = w.rewrite(&p, 0).expect("sent");
        assert_eq!((r.header[0], r.header[1], r.rest_from), (0x80, 0x80 | 96, 28));
        p.pieces = [bytes::Bytes::from_static(&[0x80; 11]).into()].into_iter().collect();
        assert_eq!(w.rewrite(&p, 0), Err(Unsendable::Cut));
    }

    proptest! {
        /// Whatever the camera's numbers: inside a segment differences are kept exactly, between segments there is none.
        #[test]
        fn differences_are_kept(first in any::<u16>(), segments in proptest::collection::vec(
            (any::<u32>(), any::<u32>(), proptest::collection::vec((1u64..50, 0u32..100_000), 1..30)), 1..8)) {
            let mut w = rewriter(first, 77);
            let mut expected = first.wrapping_sub(1);
            let mut now = 0i64;
            for (id, (seq0, ts0, steps)) in segments.into_iter().enumerate() {
                let (mut seq, mut ts) = (u64::from(seq0), ts0);
                let mut last: Option<(u16, u32, u64, u32)> = None;
                for (dseq, dts) in steps {
                    now += 20 * MS;
                    let r = w.rewrite(&packet(id as u32, seq, ts, 0), now).expect("sent");
                    match last {
                        None => prop_assert_eq!(r.seq, expected.wrapping_add(1)),
                        Some((s, t, cs, ct)) => {
                            prop_assert_eq!(u64::from(r.seq.wrapping_sub(s)), seq - cs);
                            prop_assert_eq!(r.timestamp.wrapping_sub(t), ts.wrapping_sub(ct));
                        }
                    }
                    last = Some((r.seq, r.timestamp, seq, ts));
                    expected = r.seq;
                    seq += dseq;
                    ts = ts.wrapping_add(dts);
                }
            }
        }
    }
}
