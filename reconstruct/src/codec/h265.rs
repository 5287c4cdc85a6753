//! H.265 in RTP (RFC 7798), seen from outside.
//!
//! Owns what a payload's first bytes say of NAL units, clean points and parameter sets, and the picture size in a sequence
//! parameter set. Costs: no allocation but for unusually large aggregates. Refuses DONL fields (`sprop-max-don-diff` > 0),
//! which no camera was seen to use: such payloads look malformed.

use super::bits::Bits;
use super::look::{Look, MAX_NALS};

/// IDR picture, with leading pictures that can be decoded.
pub const IDR_W_RADL: u8 = 19;
/// Clean random access picture.
pub const CRA: u8 = 21;
/// Video parameter set.
pub const VPS: u8 = 32;
/// Sequence parameter set.
pub const SPS: u8 = 33;
/// Picture parameter set.
pub const PPS: u8 = 34;
/// Access unit delimiter.
pub const AUD: u8 = 35;
/// Supplemental enhancement information before the pictures.
pub const PREFIX_SEI: u8 = 39;
/// Aggregation packet.
pub const AP: u8 = 48;
/// Fragmentation unit.
pub const FU: u8 = 49;

/// The type of a NAL unit (H.265 table 7-1) or of a packet (RFC 7798 section 4.4), from the header's first byte.
pub fn nal_type(header: u8) -> u8 {
    header >> 1 & 0x3f
}

/// BLA, IDR and CRA pictures: decoding can begin with them.
pub fn is_irap(nal_type: u8) -> bool {
    (16..=CRA).contains(&nal_type)
}

/// Notes what a payload says; see [`super::look`].
pub(super) fn look(look: &mut Look, head: &[u8], payload_len: usize) {
    // forbidden_zero_bit, and nuh_temporal_id_plus1, which is never 0 (H.265 section 7.4.2.2)
    let Some(&[first, _]) = head.first_chunk::<2>().filter(|h| h[0] & 0x80 == 0 && h[1] & 7 != 0) else {
        look.malformed = true;
        return;
    };
    (look.starts_unit, look.ends_unit) = (true, true);
    match nal_type(first) {
        0..=47 => nal(look, head, 0, payload_len <= head.len()),
        AP => aggregate(look, head, payload_len),
        FU => fragment(look, head),
        // PACI (50) and the reserved types
        _ => look.malformed = true,
    }
}

/// Whether the payload that begins so goes on with a unit that began in an earlier packet (RFC 7798 section 4.4.3).
pub fn continues_unit(payload: &[u8]) -> bool {
    matches!(payload, &[header, _, fu, ..] if nal_type(header) == FU && fu & 0x80 == 0)
}

/// Takes note of the NAL unit (or its beginning) that stands at `at` in the payload.
fn nal(look: &mut Look, bytes: &[u8], at: usize, whole: bool) {
    let Some(&header) = bytes.first() else { return };
    let kind = nal_type(header);
    match kind {
        0..=31 => {
            look.vcl = true;
            // first_slice_segment_in_pic_flag is the slice header's first bit (H.265 section 7.3.6.1).
            let first = bytes.get(2).map(|b| b & 0x80 != 0);
            look.first_slice = look.first_slice.max(first);
            look.clean |= is_irap(kind) && first != Some(false);
        }
        VPS | SPS | PPS => {
            look.prefix = true;
            look.opens |= kind != PPS;
            if whole {
                look.parameter_sets.push(at as u32..(at + bytes.len()) as u32);
            }
        }
        AUD => look.prefix = true,
        PREFIX_SEI => {
            look.prefix = true;
            look.recovery |= bytes.get(2) == Some(&6);
        }
        _ => {}
    }
}

/// AP: a size of 16 bits before each NAL unit (RFC 7798 section 4.4.2).
fn aggregate(look: &mut Look, head: &[u8], payload_len: usize) {
    let mut at = 2;
    for _ in 0..MAX_NALS {
        let Some(size) = head.get(at..at + 2) else { break };
        let size = usize::from(size[0]) << 8 | usize::from(size[1]);
        at += 2;
        if size < 2 || at + size > payload_len {
            look.malformed = true;
            look.vcl |= size > 1 && head.get(at).is_some_and(|&h| nal_type(h) < 32);
            return;
        }
        let end = (at + size).min(head.len());
        if at < end {
            nal(look, &head[at..end], at, at + size <= head.len());
        }
        at += size;
    }
    look.malformed |= payload_len < 6;
}

/// FU: payload header, then S, E and the unit's type (RFC 7798 section 4.4.3).
fn fragment(look: &mut Look, head: &[u8]) {
    let Some(&fu) = head.get(2) else {
        look.malformed = true;
        return;
    };
    let (start, end, kind) = (fu & 0x80 != 0, fu & 0x40 != 0, fu & 0x3f);
    look.starts_unit = start;
    look.ends_unit = end;
    look.malformed = kind >= AP;
    if start {
        let beginning = [kind << 1, 1, head.get(3).copied().unwrap_or(0)];
        let shown = if head.len() > 3 { 3 } else { 2 };
        nal(look, &beginning[..shown], 0, false);
    } else {
        look.vcl = kind < VPS;
    }
}

/// Largest side of a picture that is believed (level 6.2 allows 16,888).
const MAX_SIDE: u32 = 32_768;

/// Width and height of the pictures that a sequence parameter set, NAL header included, describes, cropped by its
/// conformance window (H.265 section 7.3.2.2.1).
pub fn dimensions(sps: &[u8]) -> Option<(u32, u32)> {
    let header = *sps.first()?;
    if header & 0x80 != 0 || nal_type(header) != SPS {
        return None;
    }
    let mut bits = Bits::new(sps.get(2..)?);
    bits.skip(4)?;
    let max_sub_layers_minus1 = bits.u(3)?;
    if max_sub_layers_minus1 > 6 {
        return None;
    }
    bits.bit()?;
    skip_profile_tier_level(&mut bits, max_sub_layers_minus1)?;
    if bits.ue()? > 15 {
        return None;
    }
    let chroma_format = bits.ue()?;
    if chroma_format > 3 {
        return None;
    }
    let separate_planes = chroma_format == 3 && bits.bit()?;
    let (width, height) = (bits.ue()?, bits.ue()?);
    let (mut crop_width, mut crop_height) = (0, 0);
    if bits.bit()? {
        // SubWidthC, SubHeightC (H.265 table 6-1)
        let (unit_x, unit_y) = match chroma_format {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let unit = |u| if separate_planes { 1 } else { u };
        crop_width = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit(unit_x))?;
        crop_height = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit(unit_y))?;
    }
    let believed = |side: u32, crop: u32| side.checked_sub(crop).filter(|&s| s > 0 && s <= MAX_SIDE);
    Some((believed(width, crop_width)?, believed(height, crop_height)?))
}

/// H.265 section 7.3.3
fn skip_profile_tier_level(bits: &mut Bits<'_>, max_sub_layers_minus1: u32) -> Option<()> {
    bits.skip(88 + 8)?;
    let mut present = [(false, false); 7];
    for p in present.iter_mut().take(max_sub_layers_minus1 as usize) {
        *p = (bits.bit()?, bits.bit()?);
    }
    if max_sub_layers_minus1 > 0 {
        bits.skip(2 * (8 - max_sub_layers_minus1))?;
    }
    for (profile, level) in present {
        bits.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn look(head: &[u8], payload_len: usize) -> Look {
        super::super::look(Some(super::super::Codec::H265), head, payload_len)
    }

    #[test]
    fn single_nal_units() {
        let idr = look(&[0x26, 0x01, 0xaf], 1000);
        assert!(idr.clean && idr.vcl && idr.starts_unit && idr.ends_unit);
        assert!(!look(&[0x26, 0x01, 0x2f], 1000).clean, "second slice");
        let trail = look(&[0x02, 0x01, 0xd0], 3);
        assert!(!trail.clean && trail.vcl);
        for kind in [VPS, SPS, PPS] {
            let set = look(&[kind << 1, 1, 1, 2], 4);
            assert_eq!((set.prefix, set.opens, set.parameter_sets[0].clone()), (true, kind != PPS, 0..4));
        }
    }

    #[test]
    fn aggregate_and_fragments() {
        let ap = [0x60, 1, 0, 3, 0x40, 1, 7, 0, 3, 0x42, 1, 8, 0, 3, 0x44, 1, 9, 0, 4, 0x28, 1, 0xff, 0];
        let l = look(&ap, ap.len());
        assert!(l.clean && l.opens && !l.malformed);
        assert_eq!(&l.parameter_sets[..], &[4..7, 9..12, 14..17]);
        let cut = look(&ap, ap.len() - 1);
        assert!(cut.malformed && cut.vcl && !cut.clean);
        assert!(look(&[0x62, 1, 0x80 | CRA, 0x80], 1400).clean);
        let end = look(&[0x62, 1, 0x40 | CRA, 0x80], 1400);
        assert!(!end.clean && end.vcl && end.ends_unit && !end.starts_unit);
        let continues: Vec<bool> =
            [&[0x62, 1, 0x80 | CRA][..], &[0x62, 1, CRA], &[0x62, 1, 0x40 | CRA], &[0x62, 1], &[0x02, 1, 0]]
                .map(continues_unit)
                .into();
        assert_eq!(continues, [false, true, true, false, false]);
    }

    #[test]
    fn refused() {
        for head in
            [&[0x82, 1, 0][..], &[0x02, 0, 0], &[0x02], &[0x64, 1, 0], &[0x62, 1], &[0x60, 1, 0, 1, 0, 0]]
        {
            assert!(look(head, head.len()).malformed, "{head:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), more in 0usize..2000) {
            let l = look(&bytes, bytes.len() + more);
            for set in &l.parameter_sets {
                prop_assert!(set.start < set.end && set.end as usize <= bytes.len());
            }
            let mut sps = vec![0x42, 1];
            sps.extend(&bytes);
            let _ = dimensions(&sps);
        }
    }
}
