//! One tap's packets on their way into the fold: chunks of its shards, taken apart (stage one) and waiting for their turn.

use super::ahead::UnderWay;
use crate::fold::{Descriptor, FlowHasher};
use capture::{CaptureTime, Chunk, ReadError, Shard, ShardId, Store, TapId, TapTail};
use std::collections::VecDeque;
use std::sync::Arc;

/// A chunk and the descriptors of its records.
#[derive(Debug)]
pub struct Batch {
    /// The chunk's shard; holding it keeps the bytes.
    pub shard: Arc<Shard>,
    /// The chunk.
    pub chunk: Chunk,
    /// One for each record, in order.
    pub descriptors: Vec<Descriptor>,
    /// Bytes at its end in which no record could be read.
    pub unreadable: u64,
}

impl Batch {
    /// Takes the records apart. No state: batches may be filled in parallel.
    pub fn dissect(&mut self, hasher: &FlowHasher) {
        let link = self.shard.link();
        let mut records = self.chunk.records();
        for record in &mut records {
            self.descriptors.push(Descriptor::new(link, &record, hasher));
        }
        self.unreadable = self.chunk.end() - records.offset();
        if self.unreadable > 0 {
            damaged(self.shard.id(), records.offset());
        }
    }

    /// The records' bytes.
    pub fn bytes(&self) -> Bytes<'_> {
        Bytes { base: self.chunk.base, bytes: &self.chunk.bytes }
    }
}

/// A batch's bytes, found once for all its packets.
#[derive(Clone, Copy)]
pub struct Bytes<'a> {
    base: u64,
    bytes: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// Those of a descriptor's record.
    #[inline]
    pub fn of(self, d: &Descriptor) -> &'a [u8] {
        let from = (d.record - self.base + capture::RECORD_HEADER_LEN) as usize;
        &self.bytes[from..from + d.captured_len as usize]
    }
}

fn damaged(shard: ShardId, offset: u64) {
    tracing::warn!(%shard, offset, "no record can be read here; `tapdeck verify` shows how much is damaged");
}

/// A tap's packets, in order.
#[derive(Debug)]
pub struct Feed {
    tail: TapTail,
    store: Store,
    /// Taken apart, not yet folded.
    pub ready: VecDeque<Batch>,
    /// Batches that another core is taking apart, in order: nothing is known of their packets' times.
    under_way: VecDeque<UnderWay>,
    /// How many descriptors of the first batch are folded.
    pub at: usize,
    /// The latest time so far: a tap's packets stay in order when its clock steps back.
    pub latest: CaptureTime,
    /// Descriptor lists to be used again.
    spare: Vec<Vec<Descriptor>>,
    /// Whether the tap had nothing more when it was last asked, and nothing earlier than this will come after what was pulled.
    pub watermark: Option<CaptureTime>,
    /// Bytes that were passed over because no record could be read there.
    pub unreadable_bytes: u64,
}

/// What a refill found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refill {
    /// More chunks.
    Some,
    /// Nothing at the moment.
    None,
    /// The tap is closed and read to its end.
    End,
}

impl Feed {
    /// Reads a tap from `position` on; `latest` is the latest time of what is before it.
    pub fn new(
        store: &Store,
        tap: TapId,
        position: Option<(ShardId, u64)>,
        latest: Option<CaptureTime>,
    ) -> Self {
        Self {
            tail: TapTail::new(store, tap, position),
            store: store.clone(),
            ready: VecDeque::new(),
            under_way: VecDeque::new(),
            at: 0,
            latest: latest.unwrap_or(CaptureTime::MIN),
            spare: Vec::new(),
            watermark: None,
            unreadable_bytes: 0,
        }
    }

    /// The tap.
    pub fn tap(&self) -> TapId {
        self.tail.tap()
    }

    /// Chunks that were pulled and are not folded, the one that is being folded among them.
    pub fn ahead(&self) -> usize {
        self.ready.len() + self.under_way.len()
    }

    /// Takes up to `chunks` chunks that are not dissected yet into `into`; they come back with [`put`](Self::put) or
    /// [`expect`](Self::expect).
    pub fn pull(&mut self, chunks: usize, into: &mut Vec<Batch>) -> Result<Refill, ReadError> {
        let mut found = Refill::None;
        let mut pulled = 0;
        while pulled < chunks {
            match self.tail.next() {
                Ok(Some((shard, chunk))) => {
                    let mut descriptors = self.spare.pop().unwrap_or_default();
                    descriptors.clear();
                    into.push(Batch { shard, chunk, descriptors, unreadable: 0 });
                    pulled += 1;
                    self.watermark = None;
                    found = Refill::Some;
                }
                Ok(None) => {
                    // Read after `next`: what it promises holds for what `next` did not give.
                    self.watermark = Some(self.tail.watermark());
                    return Ok(if found == Refill::None && self.tail.finished() {
                        Refill::End
                    } else {
                        found
                    });
                }
                Err(ReadError::Torn { shard, offset }) => self.pass_over(shard, offset),
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    /// A batch that was pulled, now taken apart, in the order of pulling.
    pub fn put(&mut self, batch: Batch) {
        if batch.descriptors.is_empty() {
            // Nothing of it could be read: there would never be a packet with whose folding it is done.
            self.unreadable_bytes += batch.unreadable;
            self.spare.push(batch.descriptors);
        } else {
            self.ready.push_back(batch);
        }
    }

    /// A batch that was pulled and is being taken apart, in the order of pulling.
    pub fn expect(&mut self, batch: UnderWay) {
        self.under_way.push_back(batch);
    }

    /// Waits while the next packet is in a batch that is still being taken apart: the watermark says nothing then, it is behind that batch.
    ///
    /// # Panics
    /// When taking it apart did.
    pub fn await_next(&mut self) {
        while self.ready.is_empty()
            && let Some(next) = self.under_way.pop_front()
        {
            self.put(next.recv().expect("the core that takes chunks apart did not panic"));
        }
    }

    /// Damage: goes on at the next known record of the shard.
    fn pass_over(&mut self, shard: ShardId, offset: u64) {
        let info = self.store.shard_info(shard);
        let anchor = info.as_ref().and_then(|i| i.anchors.iter().copied().find(|a| *a > offset));
        let end = info.map_or(offset, |i| i.bytes);
        self.unreadable_bytes += anchor.unwrap_or(end).saturating_sub(offset);
        damaged(shard, offset);
        self.tail.skip_to(anchor);
    }

    /// The next packet's time in this tap's order; `None` when nothing is ready.
    #[inline]
    pub fn head_time(&self) -> Option<CaptureTime> {
        let d = self.ready.front()?.descriptors.get(self.at)?;
        Some(self.latest.max(d.time))
    }

    /// The shard and the offset of the next packet; `None` when nothing is ready.
    pub fn head_place(&self) -> Option<(ShardId, u64)> {
        let batch = self.ready.front()?;
        Some((batch.shard.id(), batch.descriptors.get(self.at)?.record))
    }

    /// Whether nothing that was pulled is left.
    pub fn is_empty(&self) -> bool {
        self.ahead() == 0
    }

    /// The first batch is folded to its end.
    pub fn retire(&mut self) {
        if let Some(batch) = self.ready.pop_front() {
            self.unreadable_bytes += batch.unreadable;
            self.spare.push(batch.descriptors);
        }
        self.at = 0;
    }
}
