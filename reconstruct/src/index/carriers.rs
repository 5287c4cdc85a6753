//! First-level entries for who reads second-level blocks, out of the database.
//!
//! Costs: one decoded first-level block (about 48 KiB) is held, and looked up again only when the next is needed.

use super::db::Index;
use super::{BLOCK_ENTRIES_MAX, BlockError, Carriers, FlowId, IndexError, L1Key, L2Key, PacketEntry};
use capture::ShardId;

/// A shard's first-level blocks, the last one that was asked for of each of a few flows decoded.
pub(crate) struct BlockCarriers<'a> {
    index: &'a Index,
    shard: ShardId,
    block: Option<(L1Key, Vec<PacketEntry>)>,
}

impl<'a> BlockCarriers<'a> {
    pub(crate) fn new(index: &'a Index, shard: ShardId) -> Self {
        Self { index, shard, block: None }
    }
}

/// A damaged second-level block, or an error from the first level.
pub(crate) enum CarrierError {
    Block(BlockError),
    Index(IndexError),
}

impl From<BlockError> for CarrierError {
    fn from(e: BlockError) -> Self {
        Self::Block(e)
    }
}

impl CarrierError {
    pub(crate) fn locate(self, key: &L2Key) -> IndexError {
        match self {
            Self::Block(source) => IndexError::L2 { key: *key, source },
            Self::Index(e) => e,
        }
    }
}

impl Carriers for BlockCarriers<'_> {
    type Error = CarrierError;

    fn packet(&mut self, flow: FlowId, entry: u32) -> Result<Option<PacketEntry>, CarrierError> {
        let key = L1Key { shard: self.shard, flow, block: entry / BLOCK_ENTRIES_MAX };
        let at = (entry % BLOCK_ENTRIES_MAX) as usize;
        if let Some((held, packets)) = &self.block
            && *held == key
        {
            return Ok(packets.get(at).copied());
        }
        let packets = self.index.packets(&key).map_err(CarrierError::Index)?;
        let found = packets.get(at).copied();
        self.block = Some((key, packets));
        Ok(found)
    }
}
