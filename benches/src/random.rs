//! A small seeded generator (xorshift64*): the same seed gives the same impairments and the same footage on every machine.

/// A generator with 64 bits of state, never zero.
pub struct Random(u64);

impl Random {
    /// Starts from `seed`; near seeds give unrelated sequences.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// True in `percent` of the cases.
    pub fn percent(&mut self, percent: f64) -> bool {
        percent > 0.0 && ((self.draw() >> 16) % 1_000_000) as f64 / 10_000.0 < percent
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.draw() >> 11) % bound
    }

    /// Fills `bytes`; no byte is 0 or 1, so that H.264 start codes can't arise.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = (self.draw() | 0x0202_0202_0202_0202).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}
