//! The codec of a payload that nobody described.
//!
//! Owns the evidence for and against each codec that a dynamic payload type can be, gathered over several packets: structures
//! that random bytes do not have (a parameter set that parses, lengths that add up exactly, fragments that begin, go on and
//! end) speak for a codec, what its payload format forbids speaks against it.
//! Refuses to guess early: no codec is named before [`MIN_PACKETS`] packets and [`SURE`] points, clearly before the others.
//! Costs: a few hundred nanoseconds a packet; at most [`MAX_PACKETS`] packets are asked, then the answer stays what it is.

use serde::{Deserialize, Serialize};

use super::{Codec, h264, h265};

/// Packets that must have been seen.
pub const MIN_PACKETS: u16 = 6;
/// Packets after which nothing more is learned.
pub const MAX_PACKETS: u16 = 2_000;
/// Points a codec needs.
const SURE: i32 = 40;
/// Points by which it must lead.
const LEAD: i32 = 20;
/// A contradiction weighs more than most evidence.
const AGAINST: i32 = -12;
/// Evidence is kept within these limits, so that either side can still be outweighed.
const LIMITS: (i32, i32) = (-120, 200);

/// The evidence so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuessState {
    packets: u16,
    h264: Evidence,
    h265: Evidence,
    aac: Evidence,
    mpeg4: Evidence,
    mp2t: Evidence,
    /// Whether the packet before had the marker; `None` before the first.
    marked: Option<bool>,
    answer: Option<Codec>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Evidence {
    points: i32,
    /// What a single structure alone can't prove: a codec is named only if one of its own structures was seen.
    structures: u16,
    /// Type of the unit whose fragments are being seen, and how many fragments there were.
    fragments: Option<(u8, u16)>,
}

impl Evidence {
    fn add(&mut self, points: i32) {
        self.points = (self.points + points).clamp(LIMITS.0, LIMITS.1);
    }

    fn structure(&mut self, points: i32) {
        self.structures = self.structures.saturating_add(1);
        self.add(points);
    }

    /// A fragment of a unit: its type, and whether it is the first or last. Both payload formats have the same rules.
    fn fragment(&mut self, kind: u8, start: bool, end: bool) {
        match (start, end) {
            (true, true) => self.add(AGAINST),
            (true, false) => {
                // A unit that was begun and never ended: possible, but only through loss.
                self.add(if self.fragments.is_some() { -4 } else { 2 });
                self.fragments = Some((kind, 1));
            }
            (false, end) => match self.fragments {
                Some((begun, n)) if begun == kind => {
                    self.add(1);
                    self.fragments = if end { None } else { Some((kind, n.saturating_add(1))) };
                    if end {
                        self.structure(8);
                    }
                }
                // The tap was plugged in amid a unit, or packets were lost.
                None if self.points < 4 => {}
                _ => {
                    self.add(-6);
                    self.fragments = None;
                }
            },
        }
    }

    fn unit_outside_fragments(&mut self) {
        if self.fragments.take().is_some() {
            self.add(-4);
        }
    }
}

/// Learns from the next packet of one payload type, in sequence order, and says what its codec is once that is sure.
pub fn guess(state: &mut GuessState, payload: &[u8], marker: bool) -> Option<Codec> {
    if state.answer.is_some() || state.packets >= MAX_PACKETS || payload.is_empty() {
        return state.answer;
    }
    state.packets += 1;
    weigh_h264(&mut state.h264, payload);
    weigh_h265(&mut state.h265, payload);
    weigh_aac(&mut state.aac, payload, marker);
    weigh_mpeg4(&mut state.mpeg4, payload, state.marked);
    weigh_mp2t(&mut state.mp2t, payload);
    state.marked = Some(marker);
    state.answer = state.verdict();
    state.answer
}

impl GuessState {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn verdict(&self) -> Option<Codec> {
        if self.packets < MIN_PACKETS {
            return None;
        }
        let all = [
            (self.h264, Codec::H264),
            (self.h265, Codec::H265),
            (self.aac, Codec::Aac),
            (self.mpeg4, Codec::Mpeg4),
            (self.mp2t, Codec::Mp2t),
        ];
        let (best, codec) = all.into_iter().max_by_key(|(e, _)| e.points)?;
        let second = all.iter().filter(|(_, c)| *c != codec).map(|(e, _)| e.points).max()?;
        let sure = best.points >= SURE && best.points - second >= LEAD && best.structures >= 2;
        sure.then_some(codec)
    }
}

fn weigh_h264(e: &mut Evidence, payload: &[u8]) {
    let header = payload[0];
    let nal_ref_idc = header >> 5 & 3;
    if header & 0x80 != 0 {
        return e.add(AGAINST);
    }
    match h264::nal_type(header) {
        h264::FU_A => match payload.get(1) {
            Some(fu) if fu & 0x20 == 0 && matches!(fu & 0x1f, 1 | 5..=8) => {
                e.fragment(fu & 0x1f, fu & 0x80 != 0, fu & 0x40 != 0);
            }
            _ => e.add(AGAINST),
        },
        h264::STAP_A => match units_of_aggregate(payload, 1) {
            Some(units)
                if units.iter().all(|u| matches!(h264::nal_type(u[0]), 1 | 5..=9) && u[0] & 0x80 == 0) =>
            {
                e.unit_outside_fragments();
                e.structure(10);
                for unit in units {
                    weigh_h264_set(e, unit);
                }
            }
            _ => e.add(AGAINST),
        },
        h264::SPS | h264::PPS if nal_ref_idc == 0 => e.add(AGAINST),
        h264::SPS => {
            e.unit_outside_fragments();
            weigh_h264_set(e, payload);
        }
        h264::PPS if payload.len() < 64 => e.unit_outside_fragments(),
        h264::AUD if payload.len() == 2 && payload[1] & 0x1f == 0x10 => {
            e.unit_outside_fragments();
            e.add(3);
        }
        h264::SEI if nal_ref_idc == 0 && sei_adds_up(&payload[1..]) => {
            e.unit_outside_fragments();
            e.structure(6);
        }
        h264::IDR if nal_ref_idc == 0 => e.add(AGAINST),
        h264::SLICE | h264::IDR if slice_begins_well(&payload[1..]) => {
            e.unit_outside_fragments();
            e.add(1);
        }
        _ => e.add(AGAINST),
    }
}

fn weigh_h264_set(e: &mut Evidence, unit: &[u8]) {
    if h264::nal_type(unit[0]) == h264::SPS {
        match h264::Sps::parse(unit) {
            Some(sps) if plausible(sps.width, sps.height) => e.structure(20),
            _ => e.add(AGAINST),
        }
    }
}

fn plausible(width: u32, height: u32) -> bool {
    width >= 64 && height >= 64 && width <= 16_384 && height <= 16_384
}

/// first_mb_in_slice, slice_type up to 9, pic_parameter_set_id up to 255 (H.264 section 7.4.3)
fn slice_begins_well(body: &[u8]) -> bool {
    let mut bits = super::bits::Bits::new(&body[..body.len().min(16)]);
    let mut read = || {
        let first = bits.ue()?;
        let slice_type = bits.ue()?;
        let pps = bits.ue()?;
        Some(first < 139_264 && slice_type <= 9 && pps <= 255)
    };
    read() == Some(true)
}

/// SEI messages' sizes lead exactly to the trailing bits (H.264 section 7.3.2.3).
fn sei_adds_up(mut body: &[u8]) -> bool {
    for _ in 0..8 {
        if body == [0x80] {
            return true;
        }
        let Some((_, rest)) = ff_coded(body) else { return false };
        let Some((size, rest)) = ff_coded(rest) else { return false };
        // Sizes count bytes without emulation prevention: few are inserted, and a few bytes' slack allow for them.
        if size >= rest.len() {
            return false;
        }
        body = &rest[size..];
    }
    false
}

fn ff_coded(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let ffs = bytes.iter().take_while(|&&b| b == 0xff).count();
    Some((ffs * 255 + usize::from(*bytes.get(ffs)?), &bytes[ffs + 1..]))
}

/// The units of an aggregation packet when their lengths add up to the payload's exactly.
fn units_of_aggregate(payload: &[u8], header_len: usize) -> Option<Vec<&[u8]>> {
    let mut units = Vec::new();
    let mut rest = payload.get(header_len..)?;
    while !rest.is_empty() {
        let (size, after) = rest.split_first_chunk::<2>()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        if unit.is_empty() || units.len() >= 64 {
            return None;
        }
        units.push(unit);
        rest = after;
    }
    (!units.is_empty()).then_some(units)
}

fn weigh_h265(e: &mut Evidence, payload: &[u8]) {
    if !h265_header_is_usual(payload) {
        return e.add(AGAINST);
    }
    match h265::nal_type(payload[0]) {
        h265::FU => match payload.get(2) {
            Some(fu) if is_h265_unit(fu & 0x3f) => e.fragment(fu & 0x3f, fu & 0x80 != 0, fu & 0x40 != 0),
            _ => e.add(AGAINST),
        },
        h265::AP => match units_of_aggregate(payload, 2) {
            Some(units)
                if units.iter().all(|u| h265_header_is_usual(u) && is_h265_unit(h265::nal_type(u[0]))) =>
            {
                e.unit_outside_fragments();
                e.structure(10);
                for unit in units {
                    weigh_h265_set(e, unit);
                }
            }
            _ => e.add(AGAINST),
        },
        kind if is_h265_unit(kind) => {
            e.unit_outside_fragments();
            e.add(if kind < h265::VPS { 2 } else { 1 });
            weigh_h265_set(e, payload);
        }
        _ => e.add(AGAINST),
    }
}

/// nuh_layer_id 0, as in every single-layer stream, and a small temporal id.
fn h265_header_is_usual(unit: &[u8]) -> bool {
    unit.len() >= 2 && unit[0] & 0x81 == 0 && unit[1] >> 3 == 0 && unit[1] & 7 != 0
}

fn is_h265_unit(kind: u8) -> bool {
    matches!(kind, 0..=9 | 16..=21 | 32..=40)
}

fn weigh_h265_set(e: &mut Evidence, unit: &[u8]) {
    match h265::nal_type(unit[0]) {
        h265::SPS => match h265::dimensions(unit) {
            Some((width, height)) if plausible(width, height) => e.structure(20),
            _ => e.add(AGAINST),
        },
        // vps_base_layer flags are both 1, then at most 63 layers, and 16 reserved bits are 1 (H.265 section 7.3.2.1).
        h265::VPS if unit.get(4..6) == Some(&[0xff, 0xff]) => e.structure(10),
        h265::VPS => e.add(AGAINST),
        _ => {}
    }
}

/// AAC-hbr (RFC 3640 section 3.3.6): 16-bit AU-headers of 13 bits size and 3 bits index 0, sizes adding up exactly.
fn weigh_aac(e: &mut Evidence, payload: &[u8], marker: bool) {
    let adds_up = || {
        let bits = usize::from(payload[0]) << 8 | usize::from(*payload.get(1)?);
        if bits == 0 || !bits.is_multiple_of(16) || bits / 16 > 64 {
            return None;
        }
        let headers = payload.get(2..2 + bits / 8)?;
        let mut total = 0;
        for header in headers.chunks_exact(2) {
            if header[1] & 7 != 0 {
                return None;
            }
            total += usize::from(header[0]) << 5 | usize::from(header[1] >> 3);
        }
        Some(total == payload.len() - 2 - headers.len())
    };
    match adds_up() {
        Some(true) if marker => e.structure(10),
        Some(true) => e.structure(6),
        // A fragment of a long frame
        Some(false) if payload.len() > 1000 => {}
        _ => e.add(AGAINST),
    }
}

/// A picture begins after a marker, and with a start code of MPEG-4 part 2 (RFC 6416 section 5.1).
fn weigh_mpeg4(e: &mut Evidence, payload: &[u8], marked: Option<bool>) {
    let begins = payload.starts_with(&[0, 0, 1]) && matches!(payload.get(3), Some(0xb0..=0xb6 | 0x00..=0x2f));
    match (marked, begins) {
        (Some(true), true) if payload[3] == 0xb6 || payload[3] == 0xb0 => e.structure(8),
        (Some(true), true) => e.add(4),
        (Some(true), false) => e.add(AGAINST),
        _ => {}
    }
}

fn weigh_mp2t(e: &mut Evidence, payload: &[u8]) {
    if payload.len().is_multiple_of(188) && payload.chunks(188).all(|p| p[0] == 0x47) {
        e.structure(if payload.len() > 188 { 12 } else { 4 });
    } else {
        e.add(AGAINST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn guessed(packets: impl IntoIterator<Item = (Vec<u8>, bool)>) -> Option<Codec> {
        let mut state = GuessState::new();
        packets.into_iter().find_map(|(payload, marker)| guess(&mut state, &payload, marker))
    }

    /// Slice data of one frame in fragments: `headers` gives the payload's first bytes for (start, end).
    fn fragmented(headers: impl Fn(bool, bool) -> Vec<u8>) -> Vec<(Vec<u8>, bool)> {
        (0..4)
            .map(|i| {
                let mut payload = headers(i == 0, i == 3);
                payload.extend((0..1000u32).map(|n| (n * 31 + i * 7) as u8));
                (payload, i == 3)
            })
            .collect()
    }

    #[test]
    fn h264_joined_late_without_parameter_sets() {
        let frame = || fragmented(|s, e| vec![0x5c, 1 | u8::from(s) << 7 | u8::from(e) << 6]);
        assert_eq!(guessed((0..6).flat_map(|_| frame())), Some(Codec::H264));
        // amid a unit
        assert_eq!(guessed((0..6).flat_map(|_| frame()).skip(2)), Some(Codec::H264));
    }

    #[test]
    fn h265_joined_late() {
        let frame = || fragmented(|s, e| vec![0x62, 1, 1 | u8::from(s) << 7 | u8::from(e) << 6]);
        assert_eq!(guessed((0..6).flat_map(|_| frame()).skip(1)), Some(Codec::H265));
    }

    #[test]
    fn aac() {
        let packet = |len: usize| {
            let mut p = vec![0, 16, (len >> 5) as u8, (len << 3) as u8];
            p.resize(4 + len, 0xa5);
            (p, true)
        };
        assert_eq!(guessed([300, 311, 290, 305, 330, 299, 280].map(packet)), Some(Codec::Aac));
    }

    #[test]
    fn transport_stream() {
        let mut packet = vec![0u8; 7 * 188];
        packet.iter_mut().step_by(188).for_each(|b| *b = 0x47);
        assert_eq!(guessed(std::iter::repeat_n((packet, false), 10)), Some(Codec::Mp2t));
    }

    #[test]
    fn constant_and_textual_payloads_are_nothing() {
        for byte in 0..=255 {
            for len in [20, 160, 1000] {
                let packets = std::iter::repeat_n((vec![byte; len], byte % 2 == 0), 100);
                assert_eq!(guessed(packets), None, "{byte:#x} x {len}");
            }
        }
        let text = "<?xml version=\"1.0\"?><tt:MetadataStream>".repeat(20).into_bytes();
        assert_eq!(guessed((0..500).map(|i| (text[i..].to_vec(), i % 3 == 0))), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn random_bytes_are_nothing(seed in any::<u64>(), len in 2usize..200) {
            let mut x = seed | 1;
            let mut random = || { x ^= x << 13; x ^= x >> 7; x ^= x << 17; (x >> 24) as u8 };
            let packets: Vec<_> = (0..600).map(|_| { let p: Vec<u8> = (0..len).map(|_| random()).collect(); let m = random() % 8 == 0; (p, m) }).collect();
            prop_assert_eq!(guessed(packets), None);
        }
    }
}
