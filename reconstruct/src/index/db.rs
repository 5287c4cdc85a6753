//! The database: opened, written and cut back.
//!
//! Owns RocksDB's options, the format version, and the rules by which rows go with their shard. Memory is bounded by
//! name: [`BLOCK_CACHE_BYTES`] for reading, [`WRITE_BUFFERS_BYTES`] for writing, [`OPEN_FILES_MAX`] files.

use super::batch::{IndexBatch, encode};
use super::keys::{self, Family, kind, meta};
use super::referred::Noted;
use super::scratch;
use super::{IndexError, NextIds};
use capture::ShardId;
use rocksdb::{
    BlockBasedOptions, BoundColumnFamily, Cache, ColumnFamilyDescriptor, DBWithThreadMode, MultiThreaded,
    Options, WriteBatch, WriteOptions,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The index's format. An index of a newer one is refused, one of an older one is to be made again.
pub const FORMAT: u32 = 2;
/// Memory for blocks that were read.
pub const BLOCK_CACHE_BYTES: usize = 32 << 20;
/// Memory for what was written and is not in a table yet.
pub const WRITE_BUFFERS_BYTES: usize = 32 << 20;
/// Files that the database keeps open. A store of many terabytes has more.
pub const OPEN_FILES_MAX: i32 = 256;
/// Who opens the index replays at most so much: the next start after a crash, and every reader beside a recorder.
const WAL_BYTES_MAX: u64 = 16 << 20;
const TABLE_BYTES: u64 = 32 << 20;
const BLOCK_BYTES: usize = 16 << 10;

pub(super) type Db = DBWithThreadMode<MultiThreaded>;

/// The index of a store. Cheap to clone; all clones are the same database.
#[derive(Clone)]
pub struct Index {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    /// Where a reader beside a recorder keeps its log; removed at the end. `None` for the writer.
    secondary: Option<PathBuf>,
    row_reads: AtomicU64,
    catch_ups: AtomicU64,
    /// Held for a commit, and while it is looked which rows nothing refers to any more: a commit may refer to them again. What the
    /// commits before have noted goes with it.
    writing: Mutex<Noted>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(path) = &self.secondary {
            // Nothing but RocksDB's log of this reader: if it stays, the system clears it with the temporary files.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

fn options() -> (Options, Vec<ColumnFamilyDescriptor>) {
    let mut db = Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    db.set_db_write_buffer_size(WRITE_BUFFERS_BYTES);
    db.set_max_open_files(OPEN_FILES_MAX);
    // Sixteen threads are started otherwise, for each family, to open a handful of files.
    db.set_max_file_opening_threads(1);
    db.set_max_background_jobs(2);
    // All families' tables are written and entered at once. A reader beside the writer, which learns of tables from the manifest, would
    // see one family further than another otherwise, half a commit; and it is one note in the manifest instead of five, each synced.
    db.set_atomic_flush(true);
    db.set_max_total_wal_size(WAL_BYTES_MAX);
    db.set_bytes_per_sync(1 << 20);
    db.set_wal_bytes_per_sync(1 << 20);
    db.set_keep_log_file_num(2);
    db.set_max_log_file_size(1 << 20);
    db.set_skip_stats_update_on_db_open(true);
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let families = Family::ALL.map(|family| {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&cache);
        table.set_block_size(BLOCK_BYTES);
        table.set_bloom_filter(10.0, false);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let mut cf = Options::default();
        cf.set_block_based_table_factory(&table);
        cf.set_write_buffer_size(WRITE_BUFFERS_BYTES / 4);
        cf.set_target_file_size_base(TABLE_BYTES);
        cf.set_compression_type(rocksdb::DBCompressionType::None);
        ColumnFamilyDescriptor::new(family.name(), cf)
    });
    (db, families.into_iter().collect())
}

impl Index {
    /// Opens the index in `dir` for reading and writing, or makes a new one. One process at a time.
    pub fn open(dir: &Path) -> Result<Self, IndexError> {
        std::fs::create_dir_all(dir).map_err(|source| IndexError::Directory { path: dir.into(), source })?;
        let (options, families) = options();
        let db = Db::open_cf_descriptors(&options, dir, families)
            .map_err(|source| IndexError::Open { path: dir.into(), source })?;
        let index = Self::with(db, None);
        if !index.check_format()? {
            let mut batch = WriteBatch::default();
            batch.put_cf(&index.family(Family::Meta), keys::meta(meta::VERSION, 0), encode(&FORMAT));
            index.write(batch)?;
        }
        Ok(index)
    }

    /// Opens the index in `dir` for reading, also while another process writes it. What is read is what stood there at
    /// the last [`refresh`](Self::refresh).
    pub fn open_secondary(dir: &Path) -> Result<Self, IndexError> {
        if !dir.join("CURRENT").exists() {
            return Err(IndexError::Missing { path: dir.into() });
        }
        let own = scratch::make(&std::env::temp_dir())
            .map_err(|(path, source)| IndexError::Directory { path, source })?;
        let (mut options, families) = options();
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        let db = Db::open_cf_descriptors_as_secondary(&options, dir, &own, families);
        let db = db.map_err(|source| {
            let _ = std::fs::remove_dir_all(&own);
            IndexError::Open { path: dir.into(), source }
        })?;
        let index = Self::with(db, Some(own));
        if !index.check_format()? {
            return Err(IndexError::Missing { path: dir.into() });
        }
        Ok(index)
    }

    fn with(db: Db, secondary: Option<PathBuf>) -> Self {
        let (row_reads, catch_ups) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { inner: Arc::new(Inner { db, secondary, row_reads, catch_ups, writing: Mutex::default() }) }
    }

    /// Whether the version row is there; an error when its format is not this one's.
    fn check_format(&self) -> Result<bool, IndexError> {
        match self.row::<u32>(Family::Meta, &keys::meta(meta::VERSION, 0))? {
            None => Ok(false),
            Some(FORMAT) => Ok(true),
            Some(found) if found > FORMAT => Err(IndexError::NewerFormat { found, known: FORMAT }),
            Some(found) => Err(IndexError::OlderFormat { found }),
        }
    }

    /// Removes an index with everything in it, if there is one. Nobody may have it open.
    pub fn remove(dir: &Path) -> Result<(), IndexError> {
        match std::fs::remove_dir_all(dir) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(IndexError::Directory { path: dir.into(), source })
            }
            _ => Ok(()),
        }
    }

    /// Puts the closed index `new` in the place of the one in `dir`, if there is one, which goes; both on one file system. A crash leaves
    /// the one or the other there.
    pub fn replace(dir: &Path, new: &Path) -> Result<(), IndexError> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        let failed = |source: std::io::Error| IndexError::Replace { path: dir.into(), source };
        match renameat_with(CWD, new, CWD, dir, RenameFlags::EXCHANGE) {
            Ok(()) => Self::remove(new),
            Err(Errno::NOENT) => std::fs::rename(new, dir).map_err(failed),
            // The file system can't exchange two.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                Self::remove(dir)?;
                std::fs::rename(new, dir).map_err(failed)
            }
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Whether this is a reader's view beside a writing process.
    pub fn is_secondary(&self) -> bool {
        self.inner.secondary.is_some()
    }

    /// Takes over what the writing process has committed since. Nothing to do for the writer itself.
    pub fn refresh(&self) -> Result<(), IndexError> {
        if !self.is_secondary() {
            return Ok(());
        }
        self.inner.catch_ups.fetch_add(1, Ordering::Relaxed);
        self.db()
            .try_catch_up_with_primary()
            .map_err(|source| IndexError::Database { doing: "catch up with its writer", source })
    }

    /// Rows read since it was opened: to show that a query's cost does not grow with the store.
    pub fn row_reads(&self) -> u64 {
        self.inner.row_reads.load(Ordering::Relaxed)
    }

    pub(super) fn count_reads(&self, rows: u64) {
        self.inner.row_reads.fetch_add(rows, Ordering::Relaxed);
    }

    pub(super) fn db(&self) -> &Db {
        &self.inner.db
    }

    pub(super) fn family(&self, family: Family) -> Arc<BoundColumnFamily<'_>> {
        self.inner.db.cf_handle(family.name()).expect("all families are opened with the database")
    }

    fn write(&self, batch: WriteBatch) -> Result<(), IndexError> {
        if self.is_secondary() {
            return Err(IndexError::ReadOnly);
        }
        // The write-ahead log is not synced for each batch: a crash of the process loses nothing, and after a power
        // loss the shards are folded again from the position that is there.
        let mut options = WriteOptions::default();
        options.set_sync(false);
        self.db().write_opt(batch, &options).map_err(|source| IndexError::Database { doing: "write", source })
    }

    /// Writes a batch: all of it or, after a crash, none of it.
    pub fn commit(&self, batch: IndexBatch) -> Result<(), IndexError> {
        let families = Family::ALL.map(|f| self.family(f));
        let mut write = WriteBatch::default();
        for op in &batch.ops {
            write.put_cf(&families[op.family as usize], &op.key, &op.value);
        }
        let mut noted = self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.note_referred(&mut noted, &mut write, &batch.referred)?;
        // What could not be written is not noted.
        self.write(write).inspect_err(|_| noted.forget())
    }

    /// Makes everything that was committed durable.
    pub fn sync(&self) -> Result<(), IndexError> {
        if self.is_secondary() {
            return Ok(());
        }
        self.db().flush_wal(true).map_err(|source| IndexError::Database { doing: "sync its log", source })
    }

    /// Makes everything that was committed durable, and brings it into tables: who opens the index next has no log to replay.
    pub fn settle(&self) -> Result<(), IndexError> {
        self.sync()?;
        let families = Family::ALL.map(|f| self.family(f));
        let families: Vec<_> = families.iter().collect();
        self.db()
            .flush_cfs_opt(&families, &rocksdb::FlushOptions::default())
            .map_err(|source| IndexError::Database { doing: "write its tables", source })
    }

    /// Retention deleted a shard: its blocks, parts, gaps, reports, exchanges and times go, and the flows, segments and
    /// sessions that nothing is left of. `beside` are the lower shards that may refer to the same, ascending.
    pub fn drop_shard(&self, shard: ShardId, beside: &[ShardId]) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        // Before the look at what there is: else a commit in between would add rows that nothing points to.
        let mut writing = self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        writing.forget();
        self.remove_shards(&mut batch, shard, Some(ShardId(shard.0.saturating_add(1))))?;
        self.remove_unreferred(&mut batch, shard, beside)?;
        self.write(batch)?;
        drop(writing);
        self.remove_files(shard, Some(ShardId(shard.0.saturating_add(1))));
        Ok(())
    }

    /// Cuts the index back to what it was before `shard` began: to fold it and all later ones again. Rows of flows,
    /// streams, segments and sessions from `next` on go as well; state and positions are the caller's to write.
    pub fn drop_from(&self, shard: ShardId, next: &NextIds) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner).forget();
        self.remove_shards(&mut batch, shard, None)?;
        self.lower_referred(&mut batch, shard)?;
        let meta_family = self.family(Family::Meta);
        for (kind, id) in [
            (meta::FLOW, next.flow.0),
            (meta::STREAM, next.stream.0),
            (meta::SEGMENT, next.segment.0),
            (meta::SESSION, next.session.0),
            (meta::FLOW_LAST, next.flow.0),
            (meta::SEGMENT_LAST, next.segment.0),
            (meta::SESSION_LAST, next.session.0),
        ] {
            batch.delete_range_cf(&meta_family, keys::meta(kind, id), keys::Key::from_slice(&[kind + 1]));
        }
        self.write(batch)?;
        self.remove_files(shard, None);
        Ok(())
    }

    /// Everything that goes with the shards of `[from, to)`.
    fn remove_shards(
        &self,
        batch: &mut WriteBatch,
        from: ShardId,
        to: Option<ShardId>,
    ) -> Result<(), IndexError> {
        let begin = keys::shard(from);
        let end = to.map_or_else(|| keys::Key::from_slice(&[0xff; 9]), keys::shard);
        let stream_family = self.family(Family::Stream);
        self.scan(Family::Shard, &begin, Some(&end), |key, value| {
            if let Some((_, kind::PART | kind::GAP | kind::REPORT | kind::TIME, ..)) =
                keys::parse_in_shard(key)
            {
                batch.delete_cf(&stream_family, value);
            }
            Ok(true)
        })?;
        for family in Family::BY_SHARD {
            batch.delete_range_cf(&self.family(family), &begin, &end);
        }
        Ok(())
    }

    /// Gives the space of whole tables back at once. The rows are already gone, so that it does no harm if this fails.
    fn remove_files(&self, from: ShardId, to: Option<ShardId>) {
        let begin = keys::shard(from);
        let end = to.map_or_else(|| keys::Key::from_slice(&[0xff; 9]), keys::shard);
        for family in Family::BY_SHARD {
            if let Err(error) = self.db().delete_file_in_range_cf(&self.family(family), &begin, &end) {
                tracing::debug!(%error, "tables of deleted shards stay until the next compaction");
            }
        }
    }
}

#[cfg(test)]
#[path = "db_tests.rs"]
mod tests;
