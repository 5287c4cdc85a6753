//! The time of sending, written into the end of an RTP payload, so that a client on the same host can tell how old a packet is.
//!
//! Sixteen letters of four bits each behind a mark: no byte is small, so that no H.264 start code arises.

use std::time::{SystemTime, UNIX_EPOCH};

const MARK: &[u8; 4] = b"tdNS";
/// Bytes of a stamp.
pub const LEN: usize = 20;

/// Nanoseconds of the host's clock, which all of its namespaces share.
pub fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_nanos() as u64)
}

/// A stamp of this moment.
pub fn now() -> [u8; LEN] {
    write(clock())
}

fn write(time: u64) -> [u8; LEN] {
    let mut stamp = [0; LEN];
    stamp[..4].copy_from_slice(MARK);
    for (i, byte) in stamp[4..].iter_mut().enumerate() {
        *byte = b'a' + (time >> (60 - 4 * i) & 15) as u8;
    }
    stamp
}

/// The time that stands at the end of `packet`, if one does.
pub fn read(packet: &[u8]) -> Option<u64> {
    let stamp = packet.last_chunk::<LEN>()?;
    let letters = stamp.strip_prefix(MARK)?;
    letters.iter().try_fold(0, |time, &b| (b'a'..=b'p').contains(&b).then(|| time << 4 | u64::from(b - b'a')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let time = 0x18bc_def0_1234_5678;
        assert_eq!(read(&[b"payload".as_slice(), &write(time)].concat()), Some(time));
        assert_eq!(read(&[7; 100]), None);
        assert_eq!(read(b"short"), None);
    }
}
