//! Footage: what replay, export and the command line read.
//!
//! Owns the queries over store and index together: streams and their selection, segments, gaps, packets by flow, and the
//! [`Cursor`] that gives a stream's RTP packets in order from any time on; and the [`LiveHub`]. Refuses to write.
//! Costs: a seek reads a number of rows that does not depend on the store's size (a test holds it to that); a packet
//! is a few views of a shard's mapping. All but the live side may block on the disk.

mod cursor;
mod lanes;
mod live;
mod packets;
mod pieces;
mod records;
mod reorder;
mod seek;
mod streams;
#[cfg(test)]
mod synthetic;
mod turns;
mod types;

pub use cursor::{Cursor, CursorStats};
pub use live::{LiveHub, LiveItem, LiveRequest, LiveSubscription, SUBSCRIPTIONS_MAX};
pub use packets::PacketScan;
pub use records::{Found, Records};
pub use reorder::{ReorderLimits, Reorderer};
pub use turns::Turns;
pub use types::{
    FootageError, FoundPacket, Gap, LIVE_EDGE_NANOS, MediaPacket, PacketFilter, RtcpMapping, SegmentInfo,
    Selector, Start, StreamInfo,
};

use crate::index::{Index, SegmentId, StreamId};
use crate::model::SessionRow;
use capture::{CaptureTime, Store};
use std::collections::BTreeMap;

/// A store with its index, for reading. Cheap to clone.
#[derive(Clone)]
pub struct Footage {
    store: Store,
    index: Index,
    live: Option<LiveHub>,
}

impl Footage {
    /// Of a store that another process may be recording into.
    pub fn open(store: &Store) -> Result<Self, FootageError> {
        let index = Index::open_secondary(&store.index_dir())?;
        Ok(Self { store: store.clone(), index, live: None })
    }

    /// Of a store whose index this process has open: inside a recorder with its hub.
    pub fn with(store: Store, index: Index, live: Option<LiveHub>) -> Self {
        Self { store, index, live }
    }

    /// Takes over what a recorder in another process has written since.
    pub fn refresh(&self) -> Result<(), FootageError> {
        if self.index.is_secondary() {
            self.store.refresh()?;
            self.index.refresh()?;
        }
        Ok(())
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Live packets, inside a recorder.
    pub fn live(&self) -> Option<&LiveHub> {
        self.live.as_ref()
    }

    /// A stream's packets from `from` up to and including `to`.
    pub fn cursor(
        &self,
        stream: StreamId,
        from: CaptureTime,
        to: CaptureTime,
        start: Start,
    ) -> Result<Cursor, FootageError> {
        Cursor::open(self.clone(), stream, from, to, start)
    }

    /// First-level records, in the order of capture.
    pub fn packets(&self, filter: &PacketFilter) -> Result<PacketScan, FootageError> {
        self.refresh()?;
        PacketScan::open(self.clone(), filter.clone())
    }

    /// All sessions that something is retained of.
    pub fn sessions(&self) -> Result<Vec<SessionRow>, FootageError> {
        Ok(self.index.sessions()?)
    }

    /// The holes in a stream between two times, by time.
    pub fn gaps(
        &self,
        stream: StreamId,
        from: CaptureTime,
        to: CaptureTime,
    ) -> Result<Vec<Gap>, FootageError> {
        self.refresh()?;
        let mut gaps = self.index.gaps(stream)?;
        gaps.retain(|g| g.to >= from && g.from <= to);
        gaps.sort_by_key(|g| (g.from, g.segment, g.first_seq));
        Ok(gaps)
    }

    /// The last sender report of each of a stream's segments: what the camera's clock said then.
    pub fn last_reports(&self, stream: StreamId) -> Result<BTreeMap<SegmentId, RtcpMapping>, FootageError> {
        let mut last = BTreeMap::<SegmentId, RtcpMapping>::new();
        for r in self.index.reports(stream)? {
            let report = RtcpMapping { time: r.time, timestamp: r.timestamp, ntp: r.ntp };
            let newest = last.entry(r.segment).or_insert(report);
            if report.time > newest.time {
                *newest = report;
            }
        }
        Ok(last)
    }
}
