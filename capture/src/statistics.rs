//! The journal of statistics: what each tap did, second by second.
//!
//! Framed as the journal, in files of their own beside it (`journal/statistics-SECONDS.journal`, named by the Unix time of their first
//! record), which nobody reads but who asks for their time: opening a store costs the same however long it has recorded. A file is
//! closed when it is [`FILE_BYTES`] long; then those go that lie before all retained footage, and the oldest beyond [`FILES_MAX`].

use crate::journal::{JournalRecord, Statistics, encode, parse};
use crate::store::Store;
use crate::{CaptureTime, StoreError};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Some 18 hours of one tap.
const FILE_BYTES: u64 = 1 << 20;
/// Half a year of one tap.
const FILES_MAX: usize = 256;

/// The file that is appended to, and its length.
pub(crate) type Log = Option<(File, u64)>;

impl Store {
    /// Appends some seconds. What a kill cuts is passed over by who reads.
    pub fn append_statistics(&self, statistics: &Statistics) -> Result<(), StoreError> {
        let dir = self.dir().join("journal");
        let mut log = self.statistics_log();
        if log.as_ref().is_none_or(|(_, len)| *len >= FILE_BYTES) {
            *log = Some(self.next_file(&dir, statistics.from)?);
        }
        let Some((file, len)) = &mut *log else { return Ok(()) };
        let bytes = encode(&JournalRecord::Statistics(statistics.clone()));
        file.write_all(&bytes).map_err(StoreError::io("writing statistics into", &dir))?;
        *len += bytes.len() as u64;
        Ok(())
    }

    /// The newest one if there is room in it, else another.
    fn next_file(&self, dir: &Path, from: CaptureTime) -> Result<(File, u64), StoreError> {
        let open = |path: PathBuf| {
            let file = File::options().append(true).create(true).open(&path);
            let file = file.map_err(StoreError::io("creating", &path))?;
            let len = file.metadata().map_err(StoreError::io("examining", &path))?.len();
            Ok((file, len))
        };
        let files = files(dir)?;
        if let Some((_, newest)) = files.last()
            && newest.metadata().is_ok_and(|found| found.len() < FILE_BYTES)
        {
            return open(newest.clone());
        }
        self.prune(&files);
        // After those that are there, also when the clock was set back.
        let seconds =
            from.nanos().div_euclid(1_000_000_000).max(files.last().map_or(i64::MIN, |(last, _)| last + 1));
        open(dir.join(format!("statistics-{seconds}.journal")))
    }

    fn prune(&self, files: &[(i64, PathBuf)]) {
        let oldest = self.shards().iter().filter_map(|shard| shard.times).map(|(first, _)| first).min();
        let before = |end: i64| oldest.is_some_and(|first| end * 1_000_000_000 <= first.nanos());
        // A file ends where the next begins.
        let old = files.windows(2).take_while(|pair| before(pair[1].0)).count();
        for (_, path) in &files[..old.max((files.len() + 1).saturating_sub(FILES_MAX))] {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Seconds that may lie in a range, in the order in which they were written.
    pub fn statistics(&self, from: CaptureTime, to: CaptureTime) -> Result<Vec<Statistics>, StoreError> {
        let files = files(&self.dir().join("journal"))?;
        let seconds = |time: CaptureTime| time.nanos().div_euclid(1_000_000_000);
        let mut found = Vec::new();
        for (n, (begins, path)) in files.iter().enumerate() {
            let ends = files.get(n + 1).map_or(i64::MAX, |(next, _)| *next);
            if *begins > seconds(to) || ends < seconds(from) {
                continue;
            }
            let bytes = match std::fs::read(path) {
                Ok(bytes) => bytes,
                // Gone with its footage a moment ago.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(StoreError::io("reading", path)(e)),
            };
            found.extend(parse(&bytes).records.into_iter().filter_map(|record| match record {
                JournalRecord::Statistics(statistics) => Some(statistics),
                _ => None,
            }));
        }
        Ok(found)
    }
}

/// By when they begin.
fn files(dir: &Path) -> Result<Vec<(i64, PathBuf)>, StoreError> {
    let listed = std::fs::read_dir(dir).map_err(StoreError::io("listing", dir))?;
    let mut found: Vec<_> = listed
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let seconds = name.to_str()?.strip_prefix("statistics-")?.strip_suffix(".journal")?;
            Some((seconds.parse().ok()?, entry.path()))
        })
        .collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TapId;
    use crate::journal::StatisticsRow;

    fn ten_seconds(n: i64) -> Statistics {
        let row = StatisticsRow { millis: 1_000, received: 90_000, bytes: 1 << 30, ..Default::default() };
        Statistics { tap: TapId(1), from: CaptureTime::from_nanos(n * 10_000_000_000), rows: vec![row; 10] }
    }

    fn at(seconds: i64) -> CaptureTime {
        CaptureTime::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn only_the_files_of_a_range_are_read_and_there_is_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        (0..20_000).for_each(|n| store.append_statistics(&ten_seconds(n)).unwrap());
        let journal = store.dir().join("journal");
        let many = files(&journal).unwrap().len();
        assert!(many > 2, "{many} files");
        let hour = store.statistics(at(100_000), at(103_600)).unwrap();
        assert!(hour.iter().any(|s| s.from == at(100_000)) && hour.len() < 20_000 / (many - 1) + 2);
        assert_eq!(store.statistics(CaptureTime::MIN, CaptureTime::MAX).unwrap().len(), 20_000);
        // A kill cuts the last record; the next run appends behind it.
        let last = files(&journal).unwrap().pop().unwrap().1;
        let whole = std::fs::read(&last).unwrap();
        std::fs::write(&last, &whole[..whole.len() - 7]).unwrap();
        let store = Store::open(store.dir()).unwrap();
        store.append_statistics(&ten_seconds(20_000)).unwrap();
        let read = store.statistics(at(199_000), CaptureTime::MAX).unwrap();
        assert_eq!(read.last(), Some(&ten_seconds(20_000)));
        assert_eq!(store.statistics(CaptureTime::MIN, CaptureTime::MAX).unwrap().len(), 20_000);
        assert_eq!(files(&journal).unwrap().len(), many);
        for n in 0..2 * FILES_MAX as i64 {
            let full = File::create(journal.join(format!("statistics-{}.journal", 1_000_000 + n))).unwrap();
            full.set_len(FILE_BYTES).unwrap();
        }
        let store = Store::open(store.dir()).unwrap();
        store.append_statistics(&ten_seconds(5)).unwrap();
        assert_eq!(files(&journal).unwrap().len(), FILES_MAX);
    }
}
