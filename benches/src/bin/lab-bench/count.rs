//! How many packets lie on disk, whatever the tool that wrote them says.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::tools::Result;

/// Packets in what `tool` wrote into `dir`.
pub fn recorded(tool: &str, dir: &Path) -> Result<u64> {
    match tool {
        "tapdeck" => {
            let mut sum = 0;
            for shard in std::fs::read_dir(dir.join("store/shards"))?.flatten() {
                if shard.path().extension().is_some_and(|e| e == "pcap") {
                    sum += count_pcap(&shard.path())?;
                }
            }
            Ok(sum)
        }
        "stenotype" => {
            let mut sum = 0;
            for file in std::fs::read_dir(dir.join("PKT0"))?.flatten() {
                sum += count_blocks(&file.path())?;
            }
            Ok(sum)
        }
        _ => count_pcap(&dir.join("out.pcap")),
    }
}

/// Counts records that fit the file; what was cut short is not a packet.
///
/// Nearly all records of a bench have one size, and reading 18 GB takes longer than writing them. So it leaps: when a header like the one
/// here stands where the n-th next would, there are n between, for one of another length would have moved it. When none does, n is halved.
fn count_pcap(path: &Path) -> Result<u64> {
    let file = File::open(path)?;
    let end = file.metadata()?.len();
    let (mut at, mut count, mut leap) = (24, 0, 1u64);
    while let Some(here) = header(&file, at, end)? {
        let size = 16 + u64::from(here.0);
        count += 1;
        at += size;
        leap = (leap * 2).min(1 << 16);
        while leap > 1 {
            // The header that is looked at must be like this one, and its time near: bytes of a payload are not.
            let there = at + (leap - 1) * size;
            match header(&file, there, end)? {
                Some(other) if other.0 == here.0 && other.1.abs_diff(here.1) <= 5 => {
                    count += leap - 1;
                    at = there;
                    break;
                }
                _ => leap /= 2,
            }
        }
    }
    Ok(count)
}

/// Captured length and second of the record at `at`, when a whole one is there.
fn header(file: &File, at: u64, end: u64) -> Result<Option<(u32, u32)>> {
    if at + 16 > end {
        return Ok(None);
    }
    let mut bytes = [0; 16];
    file.read_exact_at(&mut bytes, at)?;
    let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
    let (length, second) = (word(8), word(0));
    Ok((length <= word(12) && at + 16 + u64::from(length) <= end).then_some((length, second)))
}

/// stenotype writes the kernel's ring blocks of 1 MiB as they are: the packet count stands at byte 12.
fn count_blocks(file: &Path) -> Result<u64> {
    let file = File::open(file)?;
    let blocks = file.metadata()?.len() >> 20;
    let (mut sum, mut word) = (0, [0; 4]);
    for block in 0..blocks {
        file.read_exact_at(&mut word, (block << 20) + 12)?;
        sum += u64::from(u32::from_le_bytes(word));
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaps_land_on_records() {
        let path = std::env::temp_dir().join(format!("tapdeck-count-{}.pcap", std::process::id()));
        let mut bytes = vec![0; 24];
        for n in 0..5000u32 {
            let length: u32 = if n % 770 == 3 { 60 + n % 7 } else { 1200 };
            for word in [1000 + n / 1000, 0, length, length] {
                bytes.extend(word.to_le_bytes());
            }
            bytes.resize(bytes.len() + length as usize, 0x5a);
        }
        bytes.extend([1; 20]); // a record that was cut short
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(count_pcap(&path).unwrap(), 5000);
        std::fs::remove_file(&path).unwrap();
    }
}
