//! One database that is open: RocksDB's options, its families, and what is asked of it as a whole.
//!
//! Memory is bounded by name: [`BLOCK_CACHE_BYTES`] for reading, [`WRITE_BUFFERS_BYTES`] for writing, [`OPEN_FILES_MAX`] files.

use super::IndexError;
use super::keys::{Family, Key};
use super::scratch;
use rocksdb::{
    BlockBasedOptions, BoundColumnFamily, Cache, ColumnFamilyDescriptor, DBWithThreadMode, MultiThreaded,
    Options, WriteBatch, WriteOptions,
};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

/// See the module's text.
pub(super) struct Opened {
    /// Closed ahead of its end only by who has it alone.
    db: Option<Db>,
    dir: PathBuf,
    /// The directory that was opened: another one there is another index. Held open, so that its number is not given again.
    held: Option<File>,
    /// Where a reader beside a recorder keeps its log; removed at the end. `None` for the writer.
    scratch: Option<PathBuf>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(path) = &self.scratch {
            // Nothing but RocksDB's log of this reader: if it stays, the system clears it with the temporary files.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// It may be a link to another disk.
fn in_place(dir: &Path) -> PathBuf {
    std::fs::canonicalize(dir).unwrap_or_else(|_| dir.into())
}

impl Opened {
    /// The database in `dir`, or a new one.
    pub fn to_write(dir: &Path) -> Result<Self, IndexError> {
        std::fs::create_dir_all(dir).map_err(|source| IndexError::Directory { path: dir.into(), source })?;
        Self::writing(dir, options())
    }

    /// The database in `dir`, which is there.
    pub fn again(dir: &Path) -> Result<Self, IndexError> {
        let (mut options, families) = options();
        options.create_if_missing(false);
        Self::writing(dir, (options, families))
    }

    fn writing(
        dir: &Path,
        (options, families): (Options, Vec<ColumnFamilyDescriptor>),
    ) -> Result<Self, IndexError> {
        let dir = in_place(dir);
        let db = Db::open_cf_descriptors(&options, &dir, families)
            .map_err(|source| IndexError::Open { path: dir.clone(), source })?;
        Ok(Self { db: Some(db), held: File::open(&dir).ok(), dir, scratch: None })
    }

    /// The database in `dir`, which another process may be writing.
    pub fn to_read(dir: &Path) -> Result<Self, IndexError> {
        let dir = in_place(dir);
        if !dir.join("CURRENT").exists() {
            return Err(IndexError::Missing { path: dir });
        }
        // Before it is opened: one that is exchanged meanwhile is seen to be another then.
        let held = File::open(&dir).ok();
        let own = scratch::make(&std::env::temp_dir())
            .map_err(|(path, source)| IndexError::Directory { path, source })?;
        let (mut options, families) = options();
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        let db = Db::open_cf_descriptors_as_secondary(&options, &dir, &own, families);
        let db = db.map_err(|source| {
            let _ = std::fs::remove_dir_all(&own);
            IndexError::Open { path: dir.clone(), source }
        })?;
        Ok(Self { db: Some(db), dir, held, scratch: Some(own) })
    }

    pub fn is_open(&self) -> bool {
        self.db.is_some()
    }

    /// What [is open](Self::is_open).
    pub fn db(&self) -> &Db {
        self.db.as_ref().expect("nobody is given one that is closed")
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn is_secondary(&self) -> bool {
        self.scratch.is_some()
    }

    /// Whether another index stands in its place.
    pub fn is_replaced(&self) -> bool {
        let which = |found: Metadata| (found.dev(), found.ino());
        let held = self.held.as_ref().and_then(|held| held.metadata().ok()).map(which);
        self.dir.metadata().ok().map(which).is_some_and(|found| held != Some(found))
    }

    pub fn family(&self, family: Family) -> Arc<BoundColumnFamily<'_>> {
        self.db().cf_handle(family.name()).expect("all families are opened with the database")
    }

    /// Takes over what the writing process has committed since.
    pub fn catch_up(&self) -> Result<(), IndexError> {
        self.db()
            .try_catch_up_with_primary()
            .map_err(|source| IndexError::Database { doing: "catch up with its writer", source })
    }

    pub fn write(&self, batch: WriteBatch) -> Result<(), IndexError> {
        if self.is_secondary() {
            return Err(IndexError::ReadOnly);
        }
        // The write-ahead log is not synced for each batch: a crash of the process loses nothing, and after a power
        // loss the shards are folded again from the position that is there.
        let mut options = WriteOptions::default();
        options.set_sync(false);
        self.db().write_opt(batch, &options).map_err(|source| IndexError::Database { doing: "write", source })
    }

    /// Makes everything that was written durable.
    pub fn sync(&self) -> Result<(), IndexError> {
        if self.is_secondary() {
            return Ok(());
        }
        self.db().flush_wal(true).map_err(|source| IndexError::Database { doing: "sync its log", source })
    }

    /// Brings everything into tables, or has that begun when nobody is to `wait` for it.
    pub fn write_tables(&self, wait: bool) -> Result<(), IndexError> {
        let families = Family::ALL.map(|f| self.family(f));
        let families: Vec<_> = families.iter().collect();
        let mut options = rocksdb::FlushOptions::default();
        options.set_wait(wait);
        self.db()
            .flush_cfs_opt(&families, &options)
            .map_err(|source| IndexError::Database { doing: "write its tables", source })
    }

    /// Gives the space of tables back that have nothing but rows of `[begin, end)`, which are deleted.
    pub fn remove_files(&self, family: Family, begin: &Key, end: &Key) {
        if let Err(error) = self.db().delete_file_in_range_cf(&self.family(family), begin, end) {
            tracing::debug!(%error, "tables of deleted shards stay until the next compaction");
        }
    }

    /// Waits for what it does in the background.
    pub fn close(&mut self) {
        self.db = None;
    }
}
