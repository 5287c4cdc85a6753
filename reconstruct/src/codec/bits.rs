//! Bits of a raw byte sequence payload.
//!
//! Owns the reading of fixed-length and Exp-Golomb codes (H.264 section 9.1, H.265 section 9.2) with the
//! emulation-prevention bytes passed over on the way. Refuses to read past the end: every read can fail.

pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Index of the byte that is being read.
    at: usize,
    /// Bits of that byte that were read, 0 to 7.
    bit: u8,
    /// Zero bytes directly before `at`, up to 2.
    zeros: u8,
}

impl<'a> Bits<'a> {
    /// `bytes` is a NAL unit without its header.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Bits { bytes, at: 0, bit: 0, zeros: 0 }
    }

    pub(super) fn bit(&mut self) -> Option<bool> {
        if self.bit == 0 && self.zeros == 2 && self.bytes.get(self.at) == Some(&3) {
            self.at += 1;
            self.zeros = 0;
        }
        let byte = *self.bytes.get(self.at)?;
        let value = byte >> (7 - self.bit) & 1 == 1;
        self.bit += 1;
        if self.bit == 8 {
            self.bit = 0;
            self.at += 1;
            self.zeros = if byte == 0 { (self.zeros + 1).min(2) } else { 0 };
        }
        Some(value)
    }

    /// `n` bits, at most 32.
    pub(super) fn u(&mut self, n: u8) -> Option<u32> {
        (0..n).try_fold(0u32, |value, _| Some(value << 1 | u32::from(self.bit()?)))
    }

    pub(super) fn skip(&mut self, n: u32) -> Option<()> {
        (0..n).try_for_each(|_| self.bit().map(drop))
    }

    /// ue(v)
    pub(super) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.u(zeros)?)
    }

    /// se(v)
    pub(super) fn se(&mut self) -> Option<i32> {
        let k = i64::from(self.ue()?);
        i32::try_from(if k % 2 == 1 { (k + 1) / 2 } else { -(k / 2) }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb() {
        // 1 010 011 00100 00101 -> 0 1 2 3 4
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        assert_eq!(
            [bits.ue(), bits.ue(), bits.ue(), bits.ue(), bits.ue()],
            [Some(0), Some(1), Some(2), Some(3), Some(4)]
        );
        let mut bits = Bits::new(&[0b0100_1100, 0b1000_0101]);
        assert_eq!([bits.se(), bits.se(), bits.se(), bits.se()], [Some(1), Some(-1), Some(2), Some(-2)]);
    }

    #[test]
    fn emulation_prevention_is_passed_over() {
        let mut bits = Bits::new(&[0, 0, 3, 1, 0, 0, 3]);
        assert_eq!((bits.u(24), bits.u(16), bits.bit()), (Some(1), Some(0), None));
    }

    #[test]
    fn the_end_is_none() {
        assert_eq!(Bits::new(&[0, 0, 0, 0, 0, 0]).ue(), None);
        assert_eq!(Bits::new(&[]).u(1), None);
        assert_eq!(Bits::new(&[]).u(0), Some(0));
    }
}
