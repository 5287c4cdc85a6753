//! The RTCP that the server sends (sender reports, CNAME, BYE) and what it wants to know of what clients send.
//!
//! RFC 3550, sections 6.4.1, 6.5.1 and 6.6. A compound packet each, as section 6.1 demands.

/// Seconds from 1900 to 1970.
const NTP_UNIX_OFFSET_S: i64 = 2_208_988_800;
const VERSION: u8 = 2 << 6;
const SENDER_REPORT: u8 = 200;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const ITEM_CNAME: u8 = 1;

/// What a sender report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The sender.
    pub ssrc: u32,
    /// Wall-clock time in nanoseconds since the Unix epoch.
    pub wall_ns: i64,
    /// The same moment on the RTP clock.
    pub rtp: u32,
    /// RTP packets sent.
    pub packets: u32,
    /// Their payload bytes.
    pub octets: u32,
}

/// SR and SDES.
pub fn sender_report(report: &Report, cname: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend([VERSION, SENDER_REPORT, 0, 6]);
    out.extend(report.ssrc.to_be_bytes());
    out.extend(ntp(report.wall_ns).to_be_bytes());
    out.extend(report.rtp.to_be_bytes());
    out.extend(report.packets.to_be_bytes());
    out.extend(report.octets.to_be_bytes());
    description(&mut out, report.ssrc, cname);
    out
}

/// SR, SDES and BYE: the end of what was asked for.
pub fn goodbye(report: &Report, cname: &str) -> Vec<u8> {
    let mut out = sender_report(report, cname);
    out.extend([VERSION | 1, BYE, 0, 1]);
    out.extend(report.ssrc.to_be_bytes());
    out
}

/// True for anything that an RTP receiver sends in its RTCP: a sign of life.
pub fn is_sign_of_life(data: &[u8]) -> bool {
    data.len() >= 8 && data[0] >> 6 == 2 && (200..=207).contains(&data[1])
}

/// 64-bit NTP time (RFC 3550, section 4).
fn ntp(wall_ns: i64) -> u64 {
    let seconds = wall_ns.div_euclid(1_000_000_000).saturating_add(NTP_UNIX_OFFSET_S);
    let nanos = wall_ns.rem_euclid(1_000_000_000).unsigned_abs();
    // NTP seconds wrap in 2036 by design (era 1).
    ((seconds as u64 & 0xffff_ffff) << 32) | ((nanos << 32) / 1_000_000_000)
}

fn description(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let cname = &cname.as_bytes()[..cname.len().min(64)];
    let start = out.len();
    out.extend([VERSION | 1, SOURCE_DESCRIPTION, 0, 0]);
    out.extend(ssrc.to_be_bytes());
    out.extend([ITEM_CNAME, cname.len() as u8]);
    out.extend(cname);
    // At least one zero ends the list of items, and the chunk ends on a word.
    out.push(0);
    while !(out.len() - start).is_multiple_of(4) {
        out.push(0);
    }
    let words = (out.len() - start) / 4 - 1;
    out[start + 3] = words as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_compound_packet() {
        let r = Report { ssrc: 0x0102_0304, wall_ns: 1_500_000_000, rtp: 9, packets: 2, octets: 3 };
        let b = goodbye(&r, "tapdeck@x");
        let mut types = vec![];
        let mut i = 0;
        while i < b.len() {
            types.push(b[i + 1]);
            i += 4 + 4 * usize::from(u16::from_be_bytes([b[i + 2], b[i + 3]]));
        }
        assert_eq!((i, types), (b.len(), vec![200, 202, 203]));
        assert_eq!(&b[8..16], &[0x83, 0xaa, 0x7e, 0x81, 0x80, 0, 0, 0]);
        assert!(is_sign_of_life(&b));
        assert!(!is_sign_of_life(&[0x80, 96, 0, 0, 0, 0, 0, 0]));
    }
}
