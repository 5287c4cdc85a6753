//! RTP that no RTSP announced: known by what its headers do over time.
//!
//! The first two bits of a datagram prove nothing: a quarter of all random bytes pass. A source is believed when packets with
//! its SSRC keep one payload type, count their sequence numbers upward and have media in them, several times in a row. One
//! flow can carry several sources. NAT-punching packets (a bare header), DNS, DTLS, STUN, QUIC, TFTP and the like have
//! counters elsewhere or none. Costs a few ns a packet once a source is known, and at most some 200 bytes a flow.

use crate::rtcp::looks_like_rtcp;
use capture::CaptureTime;

use crate::rtp::{PayloadType, RtpPacket, RtpTimestamp, SequenceNumber, Ssrc};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Packets in a row that make a source believed.
pub const PROBATION: u8 = 6;
/// Sources of a flow that are watched or known; the one that did worst gives way, and of those that are known one that is silent.
pub const SOURCES_MAX: usize = 4;
/// A source is silent after so many datagrams of the flow without one of its own, half a second of video …
const SILENT_DATAGRAMS: u32 = 512;
/// … or after so long: those that are sent to the same ports one after the other can be short.
const SILENT_NANOS: i64 = 2_000_000_000;
/// Datagrams that may fail before a flow is given up.
const FAILURES_MAX: u16 = 200;
/// Sequence numbers that may be missing between two packets of a source on probation.
const MISSING_MAX: i16 = 20;
/// Timestamps of neighbouring packets are this close: 100 s of video.
const TIMESTAMP_STEP_MAX: u32 = 9_000_000;

/// What a datagram is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Perhaps RTP of this source: the caller may put up to [`PROBATION`]` - 1` packets of it aside, they belong to the source when it is
    /// believed.
    Undecided(Ssrc),
    /// RTP of a source that is believed.
    Rtp {
        /// Its source.
        ssrc: Ssrc,
        /// Its payload type.
        payload_type: PayloadType,
        /// This packet is the one that decided.
        new: bool,
    },
    /// RTCP beside a source that is believed.
    Rtcp,
    /// Neither.
    NotRtp,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Source {
    ssrc: Ssrc,
    payload_type: PayloadType,
    sequence: SequenceNumber,
    timestamp: RtpTimestamp,
    /// Packets in a row that counted on; `PROBATION` is for as long as it is heard.
    good: u8,
    /// The flow's datagram that was its last, and when that was captured.
    heard: (u32, CaptureTime),
}

/// Watches one UDP flow. See the module's text.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Recogniser {
    sources: SmallVec<[Source; 1]>,
    failures: u16,
    /// Datagrams so far, modulo 2³².
    datagrams: u32,
}

impl Recogniser {
    /// Whether the flow was given up: nothing more needs to be handed in.
    pub fn gave_up(&self) -> bool {
        self.failures >= FAILURES_MAX && !self.has_rtp()
    }

    /// Whether a source is believed.
    pub fn has_rtp(&self) -> bool {
        self.sources.iter().any(|s| s.good >= PROBATION)
    }

    /// Judges the next datagram of the flow: `payload` was captured of the `wire_len` bytes that it has.
    #[inline]
    pub fn handle(&mut self, now: CaptureTime, payload: &[u8], wire_len: usize) -> Verdict {
        self.datagrams = self.datagrams.wrapping_add(1);
        let heard = (self.datagrams, now);
        if looks_like_rtcp(payload) {
            return if self.has_rtp() { Verdict::Rtcp } else { self.fail() };
        }
        let Ok(packet) = RtpPacket::parse(payload, wire_len) else { return self.fail() };
        match self.sources.iter_mut().find(|s| s.ssrc == packet.ssrc) {
            Some(source) if source.good >= PROBATION => {
                source.payload_type = packet.payload_type;
                source.sequence = packet.sequence;
                source.heard = heard;
                Verdict::Rtp { ssrc: packet.ssrc, payload_type: packet.payload_type, new: false }
            }
            Some(_) => self.watch(now, &packet),
            None => self.meet(now, &packet),
        }
    }

    /// It is known by other means that this source, of which a packet was just handed in, is one.
    pub fn believe(&mut self, ssrc: Ssrc) {
        if let Some(source) = self.sources.iter_mut().find(|s| s.ssrc == ssrc) {
            source.good = PROBATION;
            self.failures = 0;
        }
    }

    fn watch(&mut self, now: CaptureTime, packet: &RtpPacket<'_>) -> Verdict {
        let Some(source) = self.sources.iter_mut().find(|s| s.ssrc == packet.ssrc) else {
            return self.fail();
        };
        let steps = packet.sequence.steps_since(source.sequence);
        let time = packet.timestamp.units_since(source.timestamp);
        let same = packet.payload_type == source.payload_type;
        let good = same && packet.payload_len > 0 && time.unsigned_abs() <= TIMESTAMP_STEP_MAX;
        if good && (-MISSING_MAX..=0).contains(&steps) {
            // A second copy from the mirror, or reordered: says nothing either way.
            return Verdict::Undecided(source.ssrc);
        }
        source.heard = (self.datagrams, now);
        let counts_on = good && (1..=MISSING_MAX + 1).contains(&steps);
        source.good = if counts_on { source.good + 1 } else { u8::from(good) };
        source.payload_type = packet.payload_type;
        (source.sequence, source.timestamp) = (packet.sequence, packet.timestamp);
        let source = *source;
        match (counts_on, source.good) {
            (true, PROBATION..) => {
                self.failures = 0;
                Verdict::Rtp { ssrc: source.ssrc, payload_type: source.payload_type, new: true }
            }
            (true, _) => Verdict::Undecided(source.ssrc),
            (false, _) => self.fail(),
        }
    }

    fn meet(&mut self, now: CaptureTime, packet: &RtpPacket<'_>) -> Verdict {
        if packet.payload_len == 0 {
            return self.fail();
        }
        if self.sources.len() >= SOURCES_MAX {
            let silence = |s: &Source| self.datagrams.wrapping_sub(s.heard.0);
            let silent =
                |s: &Source| silence(s) > SILENT_DATAGRAMS || now.nanos_since(s.heard.1) > SILENT_NANOS;
            // Not one that is just being watched, as long as there is one that says nothing any more.
            let worst = |(_, s): &(usize, &Source)| (!silent(s), s.good, u32::MAX - silence(s));
            let place = (0..).zip(&self.sources).min_by_key(worst);
            let Some((place, _)) = place.filter(|(_, s)| s.good < PROBATION || silent(s)) else {
                return self.fail();
            };
            self.sources.remove(place);
        }
        // Every new source counts as a failure until one is believed, so that random bytes don't go on for ever.
        self.failures = self.failures.saturating_add(1);
        self.sources.push(Source {
            ssrc: packet.ssrc,
            payload_type: packet.payload_type,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            good: 1,
            heard: (self.datagrams, now),
        });
        Verdict::Undecided(packet.ssrc)
    }

    fn fail(&mut self) -> Verdict {
        self.failures = self.failures.saturating_add(1);
        Verdict::NotRtp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: CaptureTime = CaptureTime::from_nanos(0);

    fn packet(ssrc: u32, n: u16, payload: &[u8]) -> Vec<u8> {
        let mut p = vec![0x80, 96];
        p.extend_from_slice(&n.to_be_bytes());
        p.extend_from_slice(&(u32::from(n.wrapping_add(100)) / 3 * 3600).to_be_bytes());
        p.extend_from_slice(&ssrc.to_be_bytes());
        p.extend_from_slice(payload);
        p
    }

    fn verdicts<'a>(packets: impl IntoIterator<Item = &'a [u8]>) -> (Recogniser, Vec<Verdict>) {
        let mut r = Recogniser::default();
        let all = packets.into_iter().map(|p| r.handle(NOW, p, p.len())).collect();
        (r, all)
    }

    #[test]
    fn believed_after_probation() {
        let packets: Vec<_> = (65_532..65_542u32).map(|n| packet(7, n as u16, b"media")).collect();
        let (_, all) = verdicts(packets.iter().map(Vec::as_slice));
        let decided = |v: &Verdict| matches!(v, Verdict::Rtp { .. });
        assert_eq!(all.iter().position(decided), Some(usize::from(PROBATION) - 1));
        assert_eq!(all.iter().filter(|v| matches!(v, Verdict::Rtp { new: true, .. })).count(), 1);
    }

    #[test]
    fn mirrored_twice_and_two_sources_in_one_flow() {
        let packets: Vec<_> = (0..40u16).map(|n| packet(u32::from(n / 2 % 2), n / 4, b"media")).collect();
        let (r, all) = verdicts(packets.iter().map(Vec::as_slice));
        assert!(r.has_rtp());
        assert_eq!(all.iter().filter(|v| matches!(v, Verdict::Rtp { new: true, .. })).count(), 2);
    }

    #[test]
    fn nat_punches_are_no_stream() {
        let packets: Vec<_> = (0..50).map(|n| packet(0, n, b"")).collect();
        let (r, all) = verdicts(packets.iter().map(Vec::as_slice));
        assert!(!r.has_rtp() && all.iter().all(|v| *v == Verdict::NotRtp));
    }

    #[test]
    fn dns_is_no_stream_and_is_given_up() {
        // Identifiers with the bits of version 2; flags, counts and question stay the same.
        let queries: Vec<Vec<u8>> = (0..500u32)
            .map(|n| {
                let mut q = vec![0x80 | (n % 16) as u8, (n % 90) as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3];
                q.extend_from_slice(b"camexample");
                q
            })
            .collect();
        let (r, all) = verdicts(queries.iter().map(Vec::as_slice));
        assert!(r.gave_up() || !all.iter().any(|v| matches!(v, Verdict::Rtp { .. })));
        assert!(!r.has_rtp());
    }

    #[test]
    fn a_stream_that_follows_stun_is_found() {
        let stun: Vec<Vec<u8>> =
            (0..50u8).map(|n| vec![0, 1, 0, n, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, n, 1]).collect();
        let media: Vec<_> = (0..10).map(|n| packet(9, n, b"m")).collect();
        let (r, _) = verdicts(stun.iter().chain(&media).map(Vec::as_slice));
        assert!(r.has_rtp());
    }

    #[test]
    fn rtcp_counts_only_beside_rtp() {
        let report = [0x80, 201, 0, 1, 0, 0, 0, 7];
        let mut r = Recogniser::default();
        assert_eq!(r.handle(NOW, &report, 8), Verdict::NotRtp);
        for n in 0..10 {
            r.handle(NOW, &packet(7, n, b"m"), 13);
        }
        assert_eq!(r.handle(NOW, &report, 8), Verdict::Rtcp);
    }

    /// A sender that is started again and again on the same ports.
    #[test]
    fn sources_that_fell_silent_make_room() {
        let of = |ssrc: u32| (0..600u16).map(move |n| packet(ssrc, n, b"media"));
        let packets: Vec<_> = (1..=9).flat_map(of).collect();
        let (r, all) = verdicts(packets.iter().map(Vec::as_slice));
        let new = |v: &&Verdict| matches!(v, Verdict::Rtp { new: true, .. });
        assert_eq!((all.iter().filter(new).count(), r.sources.len()), (9, SOURCES_MAX));
        // Those that go on keep their places.
        let beside = |n: u16| packet(u32::from(n % if n < 400 { 4 } else { 6 }), n / 4, b"media");
        let packets: Vec<_> = (0..6000).map(beside).collect();
        let (_, all) = verdicts(packets.iter().map(Vec::as_slice));
        assert_eq!(all.iter().filter(new).count(), SOURCES_MAX);
    }

    /// Announcements of a few seconds, and sound and pictures in one flow that begin anew together.
    #[test]
    fn short_sessions_and_two_sources_at_a_time_make_room_as_well() {
        let new = |v: &Verdict| matches!(v, Verdict::Rtp { new: true, .. });
        let mut r = Recogniser::default();
        let mut believed = 0;
        for session in 0..9i64 {
            for n in 0..40 {
                let now = CaptureTime::from_nanos((session * 30_000 + i64::from(n) * 20) * 1_000_000);
                let sent = packet(1 + session as u32, n, b"media");
                believed += usize::from(new(&r.handle(now, &sent, sent.len())));
            }
        }
        assert_eq!(believed, 9);
        let pair = |session: u32, n: u16| packet(2 * session + u32::from(n % 2), n / 2, b"media");
        let packets: Vec<_> = (0..6).flat_map(|session| (0..1300).map(move |n| pair(session, n))).collect();
        let (_, all) = verdicts(packets.iter().map(Vec::as_slice));
        assert_eq!(all.iter().filter(|v| new(v)).count(), 12);
    }

    proptest! {
        #[test]
        fn random_bytes_are_no_stream(all in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..400)) {
            let mut r = Recogniser::default();
            for p in &all {
                let verdict = r.handle(NOW, p, p.len());
                let is_rtp = matches!(verdict, Verdict::Rtp { .. });
                prop_assert!(!is_rtp);
                prop_assert!(r.sources.len() <= SOURCES_MAX);
            }
        }

        /// Loss and reordering do not keep a stream from being found.
        #[test]
        fn found_in_spite_of_loss(seed in proptest::collection::vec((0u8..10, 0usize..4), 100)) {
            let mut order: Vec<(usize, u16)> = seed.iter().enumerate().filter(|(_, s)| s.0 > 0)
                .map(|(n, s)| (n + s.1, n as u16)).collect();
            order.sort();
            let packets: Vec<_> = order.iter().map(|o| packet(3, o.1, b"media")).collect();
            let (r, _) = verdicts(packets.iter().map(Vec::as_slice));
            prop_assert!(r.has_rtp());
        }
    }
}
