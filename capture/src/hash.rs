//! What a shard is recognised by: BLAKE3 of the whole, and a checksum of each MiB that tells where a changed one was changed; and what a
//! file is recognised by.

/// Bytes that have a checksum of their own.
pub const BLOCK_LEN: usize = 1 << 20;
/// Bytes that both hashes take in turn: the second finds them in the core's own cache.
const PIECE_LEN: usize = 64 << 10;

/// What a file is recognised by when it is imported again: BLAKE3 over the CRC-32 of each MiB, and its length. It costs what the file costs
/// to read anyway, a fifth of BLAKE3 of the whole; it tells files apart that nobody made to be mistaken. Evidence it is not: that is the hash
/// of the shards.
#[derive(Debug, Default)]
pub struct Fingerprint {
    sums: blake3::Hasher,
    block: crc32fast::Hasher,
    bytes: u64,
}

impl Fingerprint {
    /// The next bytes, however many.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = BLOCK_LEN - (self.bytes % BLOCK_LEN as u64) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.update(now);
            self.bytes += now.len() as u64;
            if self.bytes.is_multiple_of(BLOCK_LEN as u64) {
                self.end_block();
            }
            bytes = later;
        }
    }

    fn end_block(&mut self) {
        self.sums.update(&std::mem::take(&mut self.block).finalize().to_le_bytes());
    }

    /// All bytes are in.
    pub fn finish(mut self) -> [u8; 32] {
        self.end_block();
        self.sums.update(&self.bytes.to_le_bytes());
        *self.sums.finalize().as_bytes()
    }
}

/// Takes a shard's bytes in, block by block.
#[derive(Debug, Default)]
pub struct ShardHasher {
    whole: blake3::Hasher,
    blocks: Vec<u32>,
    bytes: u64,
}

/// A shard's hashes.
#[derive(Debug)]
pub struct ShardHashes {
    /// BLAKE3 of the whole file.
    pub whole: [u8; 32],
    /// CRC-32 of each MiB: says where, the hash says whether.
    pub blocks: Vec<u32>,
}

impl ShardHasher {
    /// The next block: a whole one, or what is left at the end.
    pub fn update(&mut self, block: &[u8]) {
        debug_assert!(block.len() <= BLOCK_LEN && self.bytes.is_multiple_of(BLOCK_LEN as u64));
        let mut sum = crc32fast::Hasher::new();
        for piece in block.chunks(PIECE_LEN) {
            self.whole.update(piece);
            sum.update(piece);
        }
        self.blocks.push(sum.finalize());
        self.bytes += block.len() as u64;
    }

    /// Bytes that are in.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All blocks are in.
    pub fn finish(self) -> ShardHashes {
        ShardHashes { whole: *self.whole.finalize().as_bytes(), blocks: self.blocks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pieces: &[&[u8]]) -> [u8; 32] {
        let mut fingerprint = Fingerprint::default();
        pieces.iter().for_each(|piece| fingerprint.update(piece));
        fingerprint.finish()
    }

    #[test]
    fn a_fingerprint_depends_on_the_bytes_alone() {
        let bytes: Vec<u8> = (0..3 * BLOCK_LEN + 17).map(|n| (n / 7) as u8).collect();
        let whole = of(&[&bytes]);
        for cut in [0, 1, BLOCK_LEN - 1, BLOCK_LEN, BLOCK_LEN + 1, bytes.len()] {
            assert_eq!(of(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
        }
        assert_ne!(of(&[&bytes[..bytes.len() - 1]]), whole);
        assert_ne!(of(&[&bytes, &[0]]), whole);
        let mut changed = bytes.clone();
        changed[2 * BLOCK_LEN] ^= 1;
        assert_ne!(of(&[&changed]), whole);
    }
}
