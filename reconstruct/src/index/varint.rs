//! Numbers in blocks: LEB128, seven bits a byte from the lowest, and zigzag for signed ones.

/// Appends `v`.
pub(super) fn put(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Appends `v`, small magnitudes short.
pub(super) fn put_signed(out: &mut Vec<u8>, v: i64) {
    put(out, zigzag(v));
}

pub(super) const fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

pub(super) const fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

/// Takes numbers off the front of a block's bytes. `None` when they end, or when a number has more than 64 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Take<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Take<'a> {
    pub(super) const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        let b = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(b)
    }

    /// `N` bytes, lowest first.
    pub(super) fn little<const N: usize>(&mut self) -> Option<u64> {
        let from = self.bytes.get(self.at..self.at.checked_add(N)?)?;
        let mut v = [0; 8];
        v[..N].copy_from_slice(from);
        self.at += N;
        Some(u64::from_le_bytes(v))
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut v = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.u8()?;
            if shift == 63 && b > 1 {
                return None;
            }
            v |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Some(v);
            }
        }
        None
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        self.varint().map(unzigzag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip(v: u64, s: i64) {
            let mut out = Vec::new();
            put(&mut out, v);
            put_signed(&mut out, s);
            let mut take = Take::new(&out, 0);
            prop_assert_eq!(take.varint(), Some(v));
            prop_assert_eq!(take.signed(), Some(s));
            prop_assert_eq!(take.u8(), None);
        }
    }

    #[test]
    fn too_long_a_number_is_refused() {
        assert_eq!(Take::new(&[0xff; 11], 0).varint(), None);
        assert_eq!(Take::new(&[0x80], 0).varint(), None);
    }
}
