//! RTCP compound packets (RFC 3550 §6): sender and receiver reports, SDES, BYE; the rest by type only.
//!
//! Reads what is there and stops at the first packet that contradicts itself; cameras send broken ones.

use crate::rtp::{NtpTimestamp, RtpTimestamp, Ssrc};

/// Whether a payload is RTCP rather than RTP: version 2 and a packet type that RTP must not use beside it (RFC 5761 §4).
pub fn looks_like_rtcp(bytes: &[u8]) -> bool {
    bytes.len() >= 4 && bytes[0] >> 6 == 2 && (192..=223).contains(&bytes[1])
}

/// One packet of a compound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RtcpPacket<'a> {
    /// SR: maps the camera's clock to RTP time.
    SenderReport(SenderReport),
    /// RR, and how many reports it has.
    ReceiverReport {
        /// Who reports.
        ssrc: Ssrc,
        /// About whom.
        reports: Vec<ReportBlock>,
    },
    /// SDES: canonical names (other items are left out).
    SourceDescription(Vec<(Ssrc, &'a [u8])>),
    /// BYE.
    Bye {
        /// Who leaves.
        ssrcs: Vec<Ssrc>,
    },
    /// APP, feedback, extended reports and what else there is.
    Other {
        /// Packet type.
        packet_type: u8,
        /// The 5 bits beside the version: count, subtype or format.
        count: u8,
        /// What follows the 4-byte header.
        body: &'a [u8],
    },
}

/// A sender report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// Who reports.
    pub ssrc: Ssrc,
    /// The camera's wall clock.
    pub ntp: NtpTimestamp,
    /// The same moment in RTP time.
    pub rtp: RtpTimestamp,
    /// Packets sent so far; wraps.
    pub packets: u32,
    /// Payload bytes sent so far; wraps.
    pub octets: u32,
    /// What the sender received itself.
    pub reports: Vec<ReportBlock>,
}

/// What one receiver says about one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: Ssrc,
    /// Fraction lost since the last report, of 256.
    pub fraction_lost: u8,
    /// Packets lost so far; negative when there were duplicates.
    pub cumulative_lost: i32,
    /// Highest sequence number received, with the receiver's count of cycles.
    pub highest_sequence: u32,
    /// Interarrival jitter in units of the clock rate.
    pub jitter: u32,
}

/// The packets of a compound, until its end or the first that can't be.
pub fn parse_compound(bytes: &[u8]) -> Compound<'_> {
    Compound { rest: bytes }
}

/// See [`parse_compound`].
#[derive(Clone, Debug)]
pub struct Compound<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Compound<'a> {
    type Item = RtcpPacket<'a>;

    fn next(&mut self) -> Option<RtcpPacket<'a>> {
        let (&[first, packet_type, high, low], _) = self.rest.split_first_chunk::<4>()?;
        let len = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
        if first >> 6 != 2 || !(192..=223).contains(&packet_type) {
            return None;
        }
        // The last packet may have been cut by the capture: its fixed part is still good.
        let whole = self.rest.get(..len.min(self.rest.len()))?;
        self.rest = self.rest.get(len..).unwrap_or(&[]);
        let packet = parse(packet_type, first & 0x1f, &whole[4..]);
        if packet.is_none() {
            self.rest = &[];
        }
        packet
    }
}

fn parse(packet_type: u8, count: u8, body: &[u8]) -> Option<RtcpPacket<'_>> {
    let ssrc = |at| word(body, at).map(Ssrc);
    Some(match packet_type {
        200 => RtcpPacket::SenderReport(SenderReport {
            ssrc: ssrc(0)?,
            ntp: NtpTimestamp(u64::from(word(body, 4)?) << 32 | u64::from(word(body, 8)?)),
            rtp: RtpTimestamp(word(body, 12)?),
            packets: word(body, 16)?,
            octets: word(body, 20)?,
            reports: report_blocks(&body[24..], count),
        }),
        201 => RtcpPacket::ReceiverReport { ssrc: ssrc(0)?, reports: report_blocks(&body[4..], count) },
        202 => RtcpPacket::SourceDescription(canonical_names(body, count)),
        203 => RtcpPacket::Bye { ssrcs: (0..usize::from(count)).map_while(|n| ssrc(4 * n)).collect() },
        _ => RtcpPacket::Other { packet_type, count, body },
    })
}

fn report_blocks(bytes: &[u8], count: u8) -> Vec<ReportBlock> {
    let block = |b: &[u8]| {
        let lost = word(b, 4)?;
        Some(ReportBlock {
            ssrc: Ssrc(word(b, 0)?),
            fraction_lost: (lost >> 24) as u8,
            // A signed number of 24 bits.
            cumulative_lost: ((lost << 8) as i32) >> 8,
            highest_sequence: word(b, 8)?,
            jitter: word(b, 12)?,
        })
    };
    bytes.chunks_exact(24).take(usize::from(count)).filter_map(block).collect()
}

/// CNAME of each chunk (RFC 3550 §6.5): items of type, length, text; a zero byte ends a chunk, which is padded to words.
fn canonical_names(bytes: &[u8], count: u8) -> Vec<(Ssrc, &[u8])> {
    let mut names = Vec::new();
    let mut at = 0;
    for _ in 0..count {
        let Some(ssrc) = word(bytes, at) else { return names };
        at += 4;
        loop {
            match (bytes.get(at), bytes.get(at + 1)) {
                (Some(0), _) => break,
                (Some(&kind), Some(&len)) => {
                    let Some(text) = bytes.get(at + 2..at + 2 + usize::from(len)) else { return names };
                    if kind == 1 {
                        names.push((Ssrc(ssrc), text));
                    }
                    at += 2 + usize::from(len);
                }
                _ => return names,
            }
        }
        at = (at / 4 + 1) * 4;
    }
    names
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sender_report() -> Vec<u8> {
        let mut p = vec![0x81, 200, 0, 12];
        for word in [7u32, 0x8000_0000, 0x4000_0000, 90, 3, 4, 9, 0x01ff_fffe, 5, 6, 0, 0] {
            p.extend_from_slice(&word.to_be_bytes());
        }
        p
    }

    #[test]
    fn compound_of_sr_sdes_bye() {
        let mut p = sender_report();
        p.extend_from_slice(&[0x81, 202, 0, 3, 0, 0, 0, 7, 1, 3, b'c', b'a', b'm', 0, 0, 0]);
        p.extend_from_slice(&[0x81, 203, 0, 1, 0, 0, 0, 7]);
        let all: Vec<_> = parse_compound(&p).collect();
        let RtcpPacket::SenderReport(sr) = &all[0] else { panic!("{all:?}") };
        assert_eq!((sr.ssrc, sr.ntp.0, sr.rtp.0), (Ssrc(7), 0x8000_0000_4000_0000, 90));
        assert_eq!((sr.reports[0].fraction_lost, sr.reports[0].cumulative_lost), (1, -2));
        assert_eq!(all[1], RtcpPacket::SourceDescription(vec![(Ssrc(7), b"cam")]));
        assert_eq!(all[2], RtcpPacket::Bye { ssrcs: vec![Ssrc(7)] });
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn a_cut_report_keeps_its_clock() {
        let p = sender_report();
        let all: Vec<_> = parse_compound(&p[..28]).collect();
        assert!(matches!(&all[..], [RtcpPacket::SenderReport(sr)] if sr.reports.is_empty()));
        assert_eq!(parse_compound(&p[..20]).count(), 0);
    }

    #[test]
    fn rtp_is_not_rtcp() {
        assert!(!looks_like_rtcp(&[0x80, 96, 0, 1]));
        assert!(!looks_like_rtcp(&[0x80, 0x80 | 96, 0, 1]));
        assert!(looks_like_rtcp(&[0x80, 201, 0, 1]));
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parse_compound(&bytes).count() <= bytes.len() / 4 + 1);
        }
    }
}
