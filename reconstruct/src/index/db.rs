//! The index: opened, written, cut back and exchanged for one that was made anew.
//!
//! Owns the format version, and the rules by which rows go with their shard.

use super::batch::{IndexBatch, encode};
use super::keys::{self, Family, kind, meta};
use super::opened::Opened;
use super::referred::Noted;
use super::{IndexError, NextIds};
use capture::ShardId;
use rocksdb::WriteBatch;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest an exchange waits for reads that are under way. Each takes milliseconds.
const EXCHANGE_WAIT: Duration = Duration::from_secs(10);
/// The index's format. An index of a newer one is refused, one of an older one is to be made again.
pub const FORMAT: u32 = 2;
/// The index of a store. Cheap to clone; all clones are the same database.
#[derive(Clone)]
pub struct Index {
    inner: Arc<Inner>,
}

struct Inner {
    /// The database; another one after [`Index::exchange`], or where a reader finds that its writer has made the index anew.
    opened: Mutex<Arc<Opened>>,
    secondary: bool,
    numbering: AtomicU64,
    row_reads: AtomicU64,
    catch_ups: AtomicU64,
    /// Held for a commit, and while it is looked which rows nothing refers to any more: a commit may refer to them again. What the
    /// commits before have noted goes with it.
    writing: Mutex<Noted>,
}

impl Index {
    /// Opens the index in `dir` for reading and writing, or makes a new one. One process at a time.
    pub fn open(dir: &Path) -> Result<Self, IndexError> {
        let index = Self::with(Opened::to_write(dir)?);
        if !index.check_format()? {
            let mut batch = WriteBatch::default();
            let opened = index.opened()?;
            batch.put_cf(&opened.family(Family::Meta), keys::meta(meta::VERSION, 0), encode(&FORMAT));
            opened.write(batch)?;
        }
        Ok(index)
    }

    /// Opens the index in `dir` for reading, also while another process writes it. What is read is what stood there at
    /// the last [`refresh`](Self::refresh).
    pub fn open_secondary(dir: &Path) -> Result<Self, IndexError> {
        let index = Self::with(Opened::to_read(dir)?);
        if !index.check_format()? {
            return Err(IndexError::Missing { path: dir.into() });
        }
        Ok(index)
    }

    fn with(opened: Opened) -> Self {
        let (row_reads, catch_ups) = (AtomicU64::new(0), AtomicU64::new(0));
        let secondary = opened.is_secondary();
        let opened = Mutex::new(Arc::new(opened));
        let (numbering, writing) = (AtomicU64::new(0), Mutex::default());
        Self { inner: Arc::new(Inner { opened, secondary, numbering, row_reads, catch_ups, writing }) }
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

    /// Puts the closed index `new` in the place of the one in `dir`, if there is one, which goes; both on one file system and closed. A crash leaves
    /// the one or the other there.
    pub fn replace(dir: &Path, new: &Path) -> Result<(), IndexError> {
        let old = Self::swap(dir, new).map_err(|source| IndexError::Replace { path: dir.into(), source })?;
        old.map_or(Ok(()), |old| Self::remove(&old))
    }

    /// Gives where the old one is then.
    fn swap(dir: &Path, new: &Path) -> io::Result<Option<PathBuf>> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, new, CWD, dir, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(Some(new.to_owned())),
            Err(Errno::NOENT) => std::fs::rename(new, dir).map(|()| None),
            // The file system can't exchange two.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                let old = dir.with_extension("old");
                let _ = std::fs::remove_dir_all(&old);
                std::fs::rename(dir, &old)?;
                std::fs::rename(new, dir).inspect_err(|_| _ = std::fs::rename(&old, dir))?;
                Ok(Some(old))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// [`replace`](Self::replace)s this open index by `new`, which is closed: whoever has this one reads the new one from then on. Waits for
    /// reads that are under way; where these don't end it fails and everything is as before. `same`: numbers mean the same in both; else whoever
    /// goes by one has to be told ([`numbering`](Self::numbering)). Gives where the old one is, to be removed.
    pub fn exchange(&self, new: &Path, same: bool) -> Result<Option<PathBuf>, IndexError> {
        let mut noted = self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let give_up = Instant::now() + EXCHANGE_WAIT;
        let mut place = loop {
            let mut place = self.inner.opened.lock().unwrap_or_else(PoisonError::into_inner);
            // Its database goes on writing where it was opened: it has to be closed before another one stands there.
            if Arc::get_mut(&mut place).map(Opened::close).is_some() {
                break place;
            }
            drop(place);
            if Instant::now() > give_up {
                return Err(IndexError::Busy);
            }
            std::thread::sleep(Duration::from_micros(200));
        };
        noted.forget();
        let dir = place.dir().to_owned();
        let swapped =
            Self::swap(&dir, new).map_err(|source| IndexError::Replace { path: dir.clone(), source });
        // Whichever of the two is there now.
        *place = Arc::new(Opened::again(&dir)?);
        if !same {
            self.inner.numbering.fetch_add(1, Ordering::AcqRel);
        }
        swapped
    }

    /// Grows when the index was exchanged for one in which numbers of streams, sessions and segments may mean others.
    pub fn numbering(&self) -> u64 {
        self.inner.numbering.load(Ordering::Acquire)
    }

    /// Whether this is a reader's view beside a writing process.
    pub fn is_secondary(&self) -> bool {
        self.inner.secondary
    }

    /// Takes over what the writing process has committed since. Nothing to do for the writer itself.
    pub fn refresh(&self) -> Result<(), IndexError> {
        if !self.is_secondary() {
            return Ok(());
        }
        self.inner.catch_ups.fetch_add(1, Ordering::Relaxed);
        let opened = self.opened()?;
        if opened.is_replaced() {
            let anew = Self::open_secondary(opened.dir())?;
            *self.inner.opened.lock().unwrap_or_else(PoisonError::into_inner) = anew.opened()?;
            // It can't be seen from here whether they are the same.
            self.inner.numbering.fetch_add(1, Ordering::AcqRel);
            return Ok(());
        }
        opened.catch_up()
    }

    /// Rows read since it was opened: to show that a query's cost does not grow with the store.
    pub fn row_reads(&self) -> u64 {
        self.inner.row_reads.load(Ordering::Relaxed)
    }

    pub(super) fn count_reads(&self, rows: u64) {
        self.inner.row_reads.fetch_add(rows, Ordering::Relaxed);
    }

    /// The database as it is open now. To be held for one reading or writing only: see [`exchange`](Self::exchange).
    pub(super) fn opened(&self) -> Result<Arc<Opened>, IndexError> {
        let opened = self.inner.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.is_open() { Ok(opened.clone()) } else { Err(IndexError::Lost) }
    }

    /// Writes a batch: all of it or, after a crash, none of it.
    pub fn commit(&self, batch: IndexBatch) -> Result<(), IndexError> {
        // First: who holds this waits for nobody who waits for the database to be exchanged.
        let mut noted = self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = self.opened()?;
        let families = Family::ALL.map(|f| opened.family(f));
        let mut write = WriteBatch::default();
        for op in &batch.ops {
            write.put_cf(&families[op.family as usize], &op.key, &op.value);
        }
        self.note_referred(&mut noted, &mut write, &batch.referred)?;
        // What could not be written is not noted.
        opened.write(write).inspect_err(|_| noted.forget())
    }

    /// Makes everything that was committed durable.
    pub fn sync(&self) -> Result<(), IndexError> {
        self.opened()?.sync()
    }

    /// Brings everything that was committed into tables, which are durable: who opens the index next has no log to replay.
    pub fn settle(&self) -> Result<(), IndexError> {
        self.opened()?.write_tables(true)
    }

    /// Begins to, so that less is left for the time when that is waited for.
    pub fn settle_ahead(&self) -> Result<(), IndexError> {
        self.opened()?.write_tables(false)
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
        self.opened()?.write(batch)?;
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
        let opened = self.opened()?;
        let meta_family = opened.family(Family::Meta);
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
        opened.write(batch)?;
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
        let opened = self.opened()?;
        let stream_family = opened.family(Family::Stream);
        self.scan(Family::Shard, &begin, Some(&end), |key, value| {
            if let Some((_, kind::PART | kind::GAP | kind::REPORT | kind::TIME, ..)) =
                keys::parse_in_shard(key)
            {
                batch.delete_cf(&stream_family, value);
            }
            Ok(true)
        })?;
        for family in Family::BY_SHARD {
            batch.delete_range_cf(&opened.family(family), &begin, &end);
        }
        Ok(())
    }

    /// Gives the space of whole tables back at once. The rows are already gone, so that it does no harm if this fails.
    fn remove_files(&self, from: ShardId, to: Option<ShardId>) {
        let begin = keys::shard(from);
        let end = to.map_or_else(|| keys::Key::from_slice(&[0xff; 9]), keys::shard);
        let Ok(opened) = self.opened() else { return };
        for family in Family::BY_SHARD {
            opened.remove_files(family, &begin, &end);
        }
    }
}

#[cfg(test)]
#[path = "db_tests.rs"]
mod tests;
