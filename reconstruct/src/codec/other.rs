//! Clean points of the codecs that need no module of their own.

use super::look::Look;

/// RFC 2435 section 3.1: every frame is a picture by itself; its first packet has fragment offset 0.
pub(super) fn jpeg(head: &[u8]) -> Look {
    let Some(main) = head.get(..8) else { return Look::malformed() };
    let first = main[1..4] == [0, 0, 0];
    Look { clean: first, vcl: true, first_slice: Some(first), starts_unit: first, ..Look::default() }
}

/// RFC 6416 section 5.1: a packet that begins a picture or its headers begins with their start code.
pub(super) fn mpeg4(head: &[u8]) -> Look {
    let mut look = Look { vcl: true, ..Look::default() };
    if !head.starts_with(&[0, 0, 1]) {
        return look;
    }
    look.starts_unit = true;
    for (i, code) in head.windows(4).enumerate() {
        if code[..3] != [0, 0, 1] {
            continue;
        }
        match code[3] {
            // vop_start_code; vop_coding_type 0 is an intra picture (ISO 14496-2 section 6.2.5)
            0xb6 => {
                look.first_slice = Some(true);
                look.clean |= head.get(i + 4).is_some_and(|b| b >> 6 == 0);
                break;
            }
            // visual_object_sequence_start_code, video_object_layer_start_code
            0xb0 | 0x20..=0x2f => look.opens = true,
            _ => {}
        }
    }
    look
}

/// RFC 2250: whole transport packets of 188 bytes; random_access_indicator marks where decoding can begin
/// (ISO 13818-1 section 2.4.3.4). Of the packets, those in the head are seen.
pub(super) fn mp2t(head: &[u8]) -> Look {
    let packets = || head.chunks(188);
    if packets().any(|p| p[0] != 0x47) {
        return Look::malformed();
    }
    let random_access = packets().any(|p| p.len() > 5 && p[3] & 0x20 != 0 && p[4] > 0 && p[5] & 0x40 != 0);
    Look::whole(random_access)
}

/// The RTP payload format for AV1, section 4.4: N is set on the first packet of a coded video sequence.
pub(super) fn av1(head: &[u8]) -> Look {
    let (continues, more, new_sequence) = (head[0] & 0x80 != 0, head[0] & 0x40 != 0, head[0] & 0x08 != 0);
    Look {
        clean: new_sequence,
        opens: new_sequence,
        vcl: true,
        starts_unit: !continues,
        ends_unit: !more,
        malformed: continues && new_sequence,
        ..Look::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jpeg_first_fragment() {
        assert!(jpeg(&[0, 0, 0, 0, 1, 80, 80, 60, 0]).clean);
        let later = jpeg(&[0, 0, 5, 0, 1, 80, 80, 60, 0]);
        assert_eq!((later.clean, later.first_slice), (false, Some(false)));
        assert!(jpeg(&[0, 0]).malformed);
    }

    #[test]
    fn mpeg4_pictures() {
        assert!(mpeg4(&[0, 0, 1, 0xb6, 0x10]).clean);
        assert!(!mpeg4(&[0, 0, 1, 0xb6, 0x50]).clean);
        let headers = mpeg4(&[0, 0, 1, 0xb0, 1, 0, 0, 1, 0xb6, 0x00]);
        assert!(headers.opens && headers.clean);
        assert!(!mpeg4(&[1, 2, 3, 4]).starts_unit);
    }

    #[test]
    fn transport_stream() {
        let mut packet = [0u8; 376];
        packet[0] = 0x47;
        packet[188] = 0x47;
        assert_eq!(mp2t(&packet), Look::whole(false));
        packet[191] = 0x30;
        packet[192] = 7;
        packet[193] = 0x50;
        assert!(mp2t(&packet).clean);
        packet[188] = 0;
        assert!(mp2t(&packet).malformed);
    }
}
