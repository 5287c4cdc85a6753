//! What a store tells of its sources, taps and shards.

use crate::journal::{Provenance, SourceKind};
use crate::{CaptureTime, LinkType, ShardId, SourceId, TapId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A store's own id, random; also the id of the recorder that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoreUuid(pub [u8; 16]);

impl fmt::Display for StoreUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// A shard, as the journal tells it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShardInfo {
    /// Its number.
    pub id: ShardId,
    /// The tap that it belongs to.
    pub tap: TapId,
    /// The source of that tap.
    pub source: SourceId,
    /// Link type.
    pub link: LinkType,
    /// Whether it is complete.
    pub sealed: bool,
    /// Length in bytes; of an unsealed shard what is published at the moment.
    pub bytes: u64,
    /// Packets, likewise.
    pub packets: u64,
    /// Earliest and latest capture time of its packets: not those of the first and the last where the clock was set back, once it is sealed.
    pub times: Option<(CaptureTime, CaptureTime)>,
    /// BLAKE3 of the file, once it is computed.
    pub hash: Option<[u8; 32]>,
    /// How its packets came here.
    pub provenance: Provenance,
    /// Offsets of records to find the way from after damage.
    #[serde(skip)]
    pub anchors: Arc<[u64]>,
    /// CRC-32 of each MiB, once computed.
    #[serde(skip)]
    pub blocks: Arc<[u32]>,
}

/// A tap, as the journal tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TapInfo {
    /// Its number.
    pub id: TapId,
    /// The source that it belongs to.
    pub source: SourceId,
    /// Interface or file name.
    pub name: String,
    /// Link type.
    pub link: LinkType,
    /// Longest capture of a packet in bytes.
    pub snaplen: u32,
    /// How its packets come here.
    pub provenance: Provenance,
}

/// A tap to be opened.
#[derive(Clone, Debug)]
pub struct NewTap {
    /// The source that it belongs to, from [`Store::open_source`].
    pub source: SourceId,
    /// Interface or file name.
    pub name: String,
    /// Link type.
    pub link: LinkType,
    /// Longest capture of a packet in bytes.
    pub snaplen: u32,
    /// How its packets come here.
    pub provenance: Provenance,
}

/// A source, as the journal tells it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceInfo {
    /// Its number.
    pub id: SourceId,
    /// What it is.
    pub kind: SourceKind,
    /// When it was opened.
    pub at: CaptureTime,
    /// Whether it ended as it should.
    pub complete: bool,
    /// Its packets, once it is complete.
    pub packets: u64,
    /// Where the file stopped making sense.
    pub damage: Option<crate::file::Damage>,
    /// Fingerprint of the file, once it is complete.
    pub hash: Option<[u8; 32]>,
    /// The first part of the recording that goes on in this one.
    pub continues: Option<SourceId>,
}

impl SourceInfo {
    /// The recording that it is a part of, by its first part; itself, if it is alone.
    pub fn recording(&self) -> SourceId {
        self.continues.unwrap_or(self.id)
    }
}
