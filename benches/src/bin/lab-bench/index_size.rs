//! What an index takes on disk, as its files lie there when everything is closed.

use std::path::Path;

use crate::tools::{Result, size_of, tapdeck};

/// Bytes of an index by kind of file, and what they describe.
#[derive(Clone, Copy, Default)]
pub struct IndexSize {
    pub packets: u64,
    pub shards: u64,
    /// Tables.
    pub sst: u64,
    /// Write-ahead log.
    pub wal: u64,
    /// RocksDB's own log, options and manifest.
    pub other: u64,
}

impl IndexSize {
    pub fn of(store: &Path) -> Result<Self> {
        let mut command = tapdeck()?;
        let listed = command.args(["streams", "--json", "--store"]).arg(store).output()?;
        let streams: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
        let packets = streams.as_array().into_iter().flatten().filter_map(|s| s["packets"].as_u64()).sum();
        let mut size = IndexSize { packets, shards: size_of(&store.join("shards")), ..IndexSize::default() };
        for file in std::fs::read_dir(store.join("index"))?.flatten() {
            let length = file.metadata()?.len();
            match file.path().extension().and_then(|e| e.to_str()) {
                Some("sst") => size.sst += length,
                Some("log") => size.wal += length,
                _ => size.other += length,
            }
        }
        Ok(size)
    }

    pub fn total(&self) -> u64 {
        self.sst + self.wal + self.other
    }

    /// Bytes of index for each RTP packet.
    pub fn a_packet(&self) -> f64 {
        self.total() as f64 / self.packets.max(1) as f64
    }

    /// Index as a percentage of what is stored.
    pub fn percent(&self) -> f64 {
        100.0 * self.total() as f64 / self.shards.max(1) as f64
    }

    /// Bytes for each packet by which it is larger than `smaller`: without what every index costs.
    pub fn marginal(&self, smaller: &IndexSize) -> f64 {
        let packets = self.packets.saturating_sub(smaller.packets).max(1);
        (self.total() as f64 - smaller.total() as f64) / packets as f64
    }

    pub fn text(&self) -> String {
        let kib = |bytes: u64| bytes / 1024;
        format!(
            "{:.2} B an RTP packet, {:.3} % of the bytes: tables {} KiB, write-ahead log {} KiB, the rest {} KiB, for {} packets",
            self.a_packet(),
            self.percent(),
            kib(self.sst),
            kib(self.wal),
            kib(self.other),
            self.packets
        )
    }
}
