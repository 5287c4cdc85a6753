//! What a shard is recognised by: BLAKE3 of the whole, and a checksum of each MiB that tells where a changed one was changed.

/// Bytes that have a checksum of their own.
pub const BLOCK_LEN: usize = 1 << 20;

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
    /// How many bytes that was.
    pub bytes: u64,
}

impl ShardHasher {
    /// The next block: a whole one, or what is left at the end.
    pub fn update(&mut self, block: &[u8]) {
        debug_assert!(block.len() <= BLOCK_LEN && self.bytes.is_multiple_of(BLOCK_LEN as u64));
        self.whole.update(block);
        self.blocks.push(crc32fast::hash(block));
        self.bytes += block.len() as u64;
    }

    /// All blocks are in.
    pub fn finish(self) -> ShardHashes {
        ShardHashes { whole: *self.whole.finalize().as_bytes(), blocks: self.blocks, bytes: self.bytes }
    }
}
