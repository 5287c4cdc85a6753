//! Access units out of packets that are in sequence order.
//!
//! Owns the decision where an access unit begins and which packet opens a clean point. RTP says that all packets of an access
//! unit have one timestamp and that the last has the marker; cameras break both. What is believed here: an access unit has
//! coded pictures in it, so parameter sets with a timestamp of their own, or with a marker, or with the previous picture's
//! timestamp, belong to the picture that follows.
//! Refuses reordering and duplicates: the caller puts packets in order first.
//! Costs: constant state and time.

use serde::{Deserialize, Serialize};

use super::look::Look;
use crate::rtp::RtpTimestamp;

/// So often in a row must a sequence parameter set be followed by no clean picture until such sets count no more.
const OPENED_IN_VAIN: u8 = 3;

/// The access units of one track.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessUnits {
    timestamp: Option<RtpTimestamp>,
    /// The current access unit has coded pictures or sound.
    has_vcl: bool,
    /// A marker has come after them.
    marked: bool,
    /// The current access unit's clean point was told.
    told_clean: bool,
    /// A sequence parameter set opened the current access unit.
    opened: bool,
    /// A clean picture or a recovery point is in it.
    kept: bool,
    in_vain: u8,
    count: u64,
    clean_count: u64,
}

/// What a packet is to its access unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Placed {
    /// The first packet of an access unit.
    pub au_start: bool,
    /// The packet with which decoding can begin: the first of its access unit's parameter sets or clean pictures.
    pub clean: bool,
    /// The packet carries whole parameter sets.
    pub parameter_sets: bool,
}

impl AccessUnits {
    /// Before the first packet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Places the next packet of the track, by its RTP timestamp, marker and payload.
    pub fn handle(&mut self, timestamp: RtpTimestamp, marker: bool, look: &Look) -> Placed {
        let au_start = self.begins(timestamp, look);
        if au_start {
            self.begin();
        }
        self.timestamp = Some(timestamp);
        self.has_vcl |= look.vcl;
        self.marked |= marker && self.has_vcl;
        self.opened |= look.opens;
        self.kept |= look.clean || look.recovery;
        let clean = !self.told_clean && (look.clean || look.opens && self.in_vain < OPENED_IN_VAIN);
        self.told_clean |= clean;
        self.clean_count += u64::from(clean);
        Placed { au_start, clean, parameter_sets: !look.parameter_sets.is_empty() }
    }

    /// Packets are missing here. The current access unit may be without its pictures; it ends.
    pub fn handle_gap(&mut self) {
        // What was lost may be what the parameter sets announced.
        self.kept |= !self.marked;
        self.has_vcl = true;
        self.marked = true;
    }

    fn begins(&self, timestamp: RtpTimestamp, look: &Look) -> bool {
        match self.timestamp {
            None => true,
            Some(last) if last != timestamp => self.has_vcl,
            Some(_) => self.marked && (look.prefix || look.first_slice == Some(true)),
        }
    }

    fn begin(&mut self) {
        if self.opened {
            self.in_vain = if self.kept { 0 } else { self.in_vain.saturating_add(1) };
        }
        self.has_vcl = false;
        self.marked = false;
        self.told_clean = false;
        self.opened = false;
        self.kept = false;
        self.count += 1;
    }

    /// Access units that have begun.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Clean points that have begun.
    pub fn clean_count(&self) -> u64 {
        self.clean_count
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Codec, look};
    use super::*;

    const SPS: &[u8] = &[0x67, 0x42, 0xc0];
    const PPS: &[u8] = &[0x68, 0xce];
    const SEI: &[u8] = &[0x06, 0x05];
    const IDR: &[u8] = &[0x65, 0x88];
    const IDR_START: &[u8] = &[0x7c, 0x85, 0x88];
    const IDR_END: &[u8] = &[0x7c, 0x45, 0x88];
    const P: &[u8] = &[0x41, 0x9a];

    /// Which packets begin an access unit, and which a clean point.
    fn place(packets: &[(u32, bool, &[u8])]) -> (Vec<usize>, Vec<usize>) {
        let mut units = AccessUnits::new();
        let (mut starts, mut cleans) = (vec![], vec![]);
        for (i, (timestamp, marker, payload)) in packets.iter().enumerate() {
            let placed = units.handle(
                RtpTimestamp(*timestamp),
                *marker,
                &look(Some(Codec::H264), payload, payload.len()),
            );
            starts.extend(placed.au_start.then_some(i));
            cleans.extend(placed.clean.then_some(i));
        }
        assert_eq!((units.count(), units.clean_count()), (starts.len() as u64, cleans.len() as u64));
        (starts, cleans)
    }

    #[test]
    fn as_the_rfc_says() {
        let packets = [
            (1, false, SPS),
            (1, false, PPS),
            (1, false, IDR_START),
            (1, true, IDR_END),
            (2, true, P),
            (3, true, IDR),
        ];
        assert_eq!(place(&packets), (vec![0, 4, 5], vec![0, 5]));
    }

    #[test]
    fn quirk_sps_marked_as_a_frame_and_with_its_own_timestamp() {
        let packets = [
            (1, true, P),
            (2, true, SPS),
            (2, true, PPS),
            (3, false, IDR_START),
            (3, true, IDR_END),
            (4, true, P),
        ];
        assert_eq!(place(&packets), (vec![0, 1, 5], vec![1]));
    }

    #[test]
    fn quirk_pps_with_the_previous_timestamp() {
        // Reolink
        let packets = [(1, true, P), (1, false, SPS), (1, false, PPS), (2, true, IDR), (3, true, P)];
        assert_eq!(place(&packets), (vec![0, 1, 4], vec![1]));
    }

    #[test]
    fn quirk_marker_on_sei() {
        let packets = [(1, true, SEI), (1, true, IDR), (2, true, SEI), (2, true, P)];
        assert_eq!(place(&packets), (vec![0, 2], vec![1]));
    }

    #[test]
    fn quirk_aggregate_cut_short() {
        // A WebRTC stack: the picture claims more bytes than its packet has, and the pictures after it are still others.
        let cut: &[u8] = &[0x78, 0, 3, 0x67, 0x42, 0xc0, 0, 2, 0x68, 0xce, 4, 0, 0x65, 0x88];
        let packets = [(1, true, P), (2, true, cut), (3, true, P), (4, true, P)];
        assert_eq!(place(&packets), (vec![0, 1, 2, 3], vec![1]));
    }

    #[test]
    fn quirk_no_marker_at_all() {
        let packets =
            [(1, false, SPS), (1, false, IDR), (2, false, P), (2, false, &[0x41, 0x01][..]), (3, false, P)];
        assert_eq!(place(&packets), (vec![0, 2, 4], vec![0]));
    }

    #[test]
    fn quirk_b_frames_go_back_in_time() {
        assert_eq!(place(&[(1, true, IDR), (4, true, P), (2, true, P), (3, true, P)]).0, [0, 1, 2, 3]);
    }

    #[test]
    fn quirk_two_pictures_with_one_timestamp() {
        assert_eq!(place(&[(1, true, IDR), (1, true, P), (2, true, P)]).0, [0, 1, 2]);
    }

    #[test]
    fn parameter_sets_before_ordinary_pictures_soon_count_no_more() {
        let mut packets = vec![(0, true, IDR)];
        for t in 1..10 {
            packets.extend([(t, false, SPS), (t, true, P)]);
        }
        packets.push((10, true, IDR));
        let (_, cleans) = place(&packets);
        assert_eq!(cleans, [0, 1, 3, 5, 19]);
    }

    #[test]
    fn sound_is_clean_everywhere() {
        let mut units = AccessUnits::new();
        for t in 0..5 {
            let placed =
                units.handle(RtpTimestamp(t * 160), false, &look(Some(Codec::Pcmu), &[0xff; 160], 160));
            assert!(placed.au_start && placed.clean);
        }
    }

    #[test]
    fn after_a_gap_an_access_unit_begins() {
        let mut units = AccessUnits::new();
        let l = |p: &[u8]| look(Some(Codec::H264), p, p.len());
        units.handle(RtpTimestamp(1), false, &l(SPS));
        units.handle_gap();
        assert!(units.handle(RtpTimestamp(2), true, &l(P)).au_start);
    }
}
