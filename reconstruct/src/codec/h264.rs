//! H.264 in RTP (RFC 6184), seen from outside.
//!
//! Owns what a payload's first bytes say of NAL units, clean points and parameter sets, and the few fields of a sequence
//! parameter set that others need. Costs: no allocation but for unusually large aggregates.

use super::bits::Bits;
use super::look::{Look, MAX_NALS};

/// Non-IDR slice.
pub const SLICE: u8 = 1;
/// IDR slice.
pub const IDR: u8 = 5;
/// Supplemental enhancement information.
pub const SEI: u8 = 6;
/// Sequence parameter set.
pub const SPS: u8 = 7;
/// Picture parameter set.
pub const PPS: u8 = 8;
/// Access unit delimiter.
pub const AUD: u8 = 9;
/// Single-time aggregation packet.
pub const STAP_A: u8 = 24;
/// Fragmentation unit.
pub const FU_A: u8 = 28;
/// Fragmentation unit with a decoding order number.
pub const FU_B: u8 = 29;

/// The type of a NAL unit (H.264 table 7-1) or of a packet (RFC 6184 table 1).
pub fn nal_type(header: u8) -> u8 {
    header & 0x1f
}

/// Notes what a payload says; see [`super::look`].
pub(super) fn look(look: &mut Look, head: &[u8], payload_len: usize) {
    let Some(&header) = head.first() else { return };
    if header & 0x80 != 0 {
        // forbidden_zero_bit
        look.malformed = true;
        return;
    }
    (look.starts_unit, look.ends_unit) = (true, true);
    match nal_type(header) {
        1..=23 => nal(look, head, 0, payload_len <= head.len()),
        STAP_A => aggregate(look, head, payload_len),
        FU_A | FU_B => fragment(look, head),
        // STAP-B, MTAP16, MTAP24: interleaved mode, which no camera was seen to use; 0, 30, 31 are reserved.
        _ => look.malformed = true,
    }
}

/// Whether the payload that begins so goes on with a unit that began in an earlier packet (RFC 6184 section 5.8).
pub fn continues_unit(payload: &[u8]) -> bool {
    matches!(payload, &[header, fu, ..] if matches!(nal_type(header), FU_A | FU_B) && fu & 0x80 == 0)
}

/// Takes note of the NAL unit (or its beginning) that stands at `at` in the payload.
fn nal(look: &mut Look, bytes: &[u8], at: usize, whole: bool) {
    let Some(&header) = bytes.first() else { return };
    let kind = nal_type(header);
    match kind {
        SLICE..=IDR => {
            look.vcl = true;
            // first_mb_in_slice is the slice header's first code, and a single 1 bit when 0 (H.264 section 7.3.3).
            let first = bytes.get(1).map(|b| b & 0x80 != 0);
            look.first_slice = look.first_slice.max(first);
            look.clean |= kind == IDR && first != Some(false);
        }
        SEI => {
            look.prefix = true;
            look.recovery |= bytes.get(1) == Some(&6);
        }
        SPS | PPS => {
            look.prefix = true;
            look.opens |= kind == SPS;
            if whole {
                look.parameter_sets.push(at as u32..(at + bytes.len()) as u32);
            }
        }
        AUD => look.prefix = true,
        _ => {}
    }
}

/// STAP-A: a size of 16 bits before each NAL unit (RFC 6184 section 5.7.1).
fn aggregate(look: &mut Look, head: &[u8], payload_len: usize) {
    let mut at = 1;
    for _ in 0..MAX_NALS {
        let Some(size) = head.get(at..at + 2) else { break };
        let size = usize::from(size[0]) << 8 | usize::from(size[1]);
        at += 2;
        if size == 0 || at + size > payload_len {
            look.malformed = true;
            // A unit cut short by its sender can't be decoded, but is a picture all the same.
            look.vcl |= size > 0 && head.get(at).is_some_and(|&h| (SLICE..=IDR).contains(&nal_type(h)));
            return;
        }
        let end = (at + size).min(head.len());
        if at < end {
            nal(look, &head[at..end], at, at + size <= head.len());
        }
        at += size;
    }
    look.malformed |= payload_len < 4;
}

/// FU-A and FU-B: indicator, then S, E, R and the unit's type (RFC 6184 section 5.8).
fn fragment(look: &mut Look, head: &[u8]) {
    let Some(&fu) = head.get(1) else {
        look.malformed = true;
        return;
    };
    let (start, end, kind) = (fu & 0x80 != 0, fu & 0x40 != 0, fu & 0x1f);
    look.starts_unit = start;
    look.ends_unit = end;
    look.malformed = kind == 0 || kind >= 24;
    // An FU-B has the decoding order number before its unit's bytes.
    let body_at = if nal_type(head[0]) == FU_A { 2 } else { 4 };
    if start {
        let beginning = [kind, head.get(body_at).copied().unwrap_or(0)];
        let shown = if head.len() > body_at { 2 } else { 1 };
        nal(look, &beginning[..shown], 0, false);
    } else {
        look.vcl = (SLICE..=IDR).contains(&kind);
    }
}

/// What is read of a sequence parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sps {
    /// profile_idc, the constraint flags, level_idc: an SDP's profile-level-id.
    pub profile_level_id: [u8; 3],
    /// Width of the cropped picture in luma samples.
    pub width: u32,
    /// Height of the cropped picture in luma samples.
    pub height: u32,
}

/// Largest side of a picture that is believed (level 6.2 allows 16,384 at the most).
const MAX_SIDE: u32 = 32_768;

impl Sps {
    /// Reads a sequence parameter set, NAL header included (H.264 section 7.3.2.1.1).
    pub fn parse(nal: &[u8]) -> Option<Sps> {
        let (&header, body) = nal.split_first()?;
        if header & 0x80 != 0 || nal_type(header) != SPS {
            return None;
        }
        let profile_level_id: [u8; 3] = body.get(..3)?.try_into().ok()?;
        let mut bits = Bits::new(body.get(3..)?);
        if bits.ue()? > 31 {
            return None;
        }
        let mut chroma_format = 1;
        let mut separate_planes = false;
        if matches!(
            profile_level_id[0],
            100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
        ) {
            chroma_format = bits.ue()?;
            if chroma_format > 3 {
                return None;
            }
            if chroma_format == 3 {
                separate_planes = bits.bit()?;
            }
            bits.ue()?;
            bits.ue()?;
            bits.bit()?;
            if bits.bit()? {
                for i in 0..if chroma_format == 3 { 12 } else { 8 } {
                    if bits.bit()? {
                        skip_scaling_list(&mut bits, if i < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        let (width, height) =
            dimensions_after_chroma(&mut bits, if separate_planes { 0 } else { chroma_format })?;
        Some(Sps { profile_level_id, width, height })
    }
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..size {
        if next != 0 {
            next = (last.wrapping_add(bits.se()?)) & 0xff;
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

fn dimensions_after_chroma(bits: &mut Bits<'_>, chroma_array_type: u32) -> Option<(u32, u32)> {
    bits.ue()?; // log2_max_frame_num_minus4
    match bits.ue()? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.bit()?;
            bits.se()?;
            bits.se()?;
            let cycle = bits.ue()?;
            if cycle > 255 {
                return None;
            }
            for _ in 0..cycle {
                bits.se()?;
            }
        }
        2 => {}
        _ => return None,
    }
    bits.ue()?; // max_num_ref_frames
    bits.bit()?;
    let width_mbs = bits.ue()?.checked_add(1)?;
    let height_units = bits.ue()?.checked_add(1)?;
    let frame_mbs_only = bits.bit()?;
    if !frame_mbs_only {
        bits.bit()?;
    }
    bits.bit()?;
    let fields = if frame_mbs_only { 1 } else { 2 };
    let width = width_mbs.checked_mul(16)?;
    let height = height_units.checked_mul(16 * fields)?;
    let (mut crop_width, mut crop_height) = (0, 0);
    if bits.bit()? {
        // CropUnitX, CropUnitY (H.264 equations 7-19 to 7-22)
        let (unit_x, unit_y) = match chroma_array_type {
            1 => (2, 2 * fields),
            2 => (2, fields),
            _ => (1, fields),
        };
        crop_width = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit_x)?;
        crop_height = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit_y)?;
    }
    let believed = |side: u32, crop: u32| side.checked_sub(crop).filter(|&s| s > 0 && s <= MAX_SIDE);
    Some((believed(width, crop_width)?, believed(height, crop_height)?))
}

/// Width and height of the pictures that a sequence parameter set describes.
pub fn dimensions(sps: &[u8]) -> Option<(u32, u32)> {
    Sps::parse(sps).map(|sps| (sps.width, sps.height))
}

/// The three bytes of an SDP's `profile-level-id` (RFC 6184 section 8.1).
pub fn profile_level_id(sps: &[u8]) -> Option<[u8; 3]> {
    Sps::parse(sps).map(|sps| sps.profile_level_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn look(head: &[u8], payload_len: usize) -> Look {
        super::super::look(Some(super::super::Codec::H264), head, payload_len)
    }

    /// A sequence parameter set of x264, 640x480, constrained baseline, level 3.
    const SPS_VGA: [u8; 24] = [
        0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x3d, 0xa1, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03,
        0x00, 0x32, 0x0f, 0x16, 0x2e, 0x48, 0x00,
    ];

    #[test]
    fn single_nal_units() {
        let idr = look(&[0x65, 0x88, 0x84], 1000);
        assert!(idr.clean && idr.vcl && idr.starts_unit && idr.ends_unit && !idr.prefix);
        assert_eq!(idr.first_slice, Some(true));
        let second_slice = look(&[0x65, 0x01], 1000);
        assert!(!second_slice.clean && second_slice.vcl);
        let p = look(&[0x41, 0x9a], 2);
        assert!(!p.clean && p.vcl);
        let sps = look(&SPS_VGA, SPS_VGA.len());
        assert!(sps.opens && sps.prefix && !sps.vcl);
        assert_eq!(sps.parameter_sets[0], 0..SPS_VGA.len() as u32);
        assert!(look(&SPS_VGA[..10], SPS_VGA.len()).parameter_sets.is_empty());
    }

    #[test]
    fn aggregate_of_parameter_sets_and_idr() {
        let mut stap = vec![0x78, 0, 3, 0x67, 1, 2, 0, 2, 0x68, 9, 0, 5, 0x65, 0x88, 0, 0, 0];
        let l = look(&stap, stap.len());
        assert!(l.clean && l.opens && l.vcl && !l.malformed);
        assert_eq!(&l.parameter_sets[..], &[3..6, 8..10]);
        let cut = look(&stap, stap.len() - 1);
        assert!(cut.malformed && cut.vcl && !cut.clean && cut.opens);
        stap[7] = 200;
        assert!(look(&stap, stap.len()).malformed);
    }

    #[test]
    fn fragments() {
        let start = look(&[0x7c, 0x85, 0x88, 1], 1400);
        assert!(start.clean && start.starts_unit && !start.ends_unit);
        let middle = look(&[0x7c, 0x05, 0x88, 1], 1400);
        assert!(!middle.clean && middle.vcl && !middle.starts_unit && !middle.ends_unit);
        let end = look(&[0x7c, 0x45], 2);
        assert!(end.ends_unit && !end.starts_unit);
        assert!(look(&[0x7c], 1).malformed);
        let continues: Vec<bool> =
            [&[0x7c, 0x85, 0x88][..], &[0x7c, 0x05, 0x88], &[0x7c, 0x45], &[0x7c], &[0x41, 0x05]]
                .map(continues_unit)
                .into();
        assert_eq!(continues, [false, true, true, false, false]);
    }

    #[test]
    fn refused() {
        for header in [0x00, 0x80, 0xe5, 0x1f, 0x1a] {
            assert!(look(&[header, 1, 2, 3], 4).malformed, "{header:#x}");
        }
    }

    #[test]
    fn sequence_parameter_set() {
        assert_eq!(dimensions(&SPS_VGA), Some((640, 480)));
        assert_eq!(profile_level_id(&SPS_VGA), Some([0x42, 0xc0, 0x1e]));
        assert_eq!(dimensions(&SPS_VGA[..6]), None);
        assert_eq!(dimensions(&[0x68, 1, 2]), None);
    }

    #[test]
    fn high_profile_with_cropping() {
        // x264, high profile, 1920x1080: 120 x 68 macroblocks, the last 8 lines cropped.
        let sps = [
            0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03,
            0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x60, 0xc6, 0x58,
        ];
        assert_eq!(dimensions(&sps), Some((1920, 1080)));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), more in 0usize..2000) {
            let l = look(&bytes, bytes.len() + more);
            for set in &l.parameter_sets {
                prop_assert!(set.start < set.end && set.end as usize <= bytes.len());
            }
            let mut sps = vec![0x67];
            sps.extend(&bytes);
            let _ = dimensions(&sps);
        }
    }
}
