//! A look at the head of a capture file, before anything is made or copied.

use crate::failure::Failure;
use capture::{CaptureTime, FileParser, LinkType, Step};
use reconstruct::wire::{self, Undissected};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Headers and interface blocks of any real file are within this.
const HEAD_LEN: u64 = 256 << 10;

/// Refuses what can't be read, and a file none of whose first interfaces has a link type that is understood. What is
/// wrong with it otherwise is found, and told with its offset, when it is imported. Gives the time of the first packet, if one is near.
pub fn check(path: &Path) -> Result<Option<CaptureTime>, Failure> {
    let cannot = |error: io::Error| {
        Failure::failed(format_args!("cannot read {}: {error}", path.display()))
            .next("check the name and its permissions; nothing was imported")
    };
    // Before it is opened: a pipe that nobody writes to would wait for ever.
    let found = path.metadata().map_err(cannot)?;
    if found.is_dir() {
        let failure = Failure::failed(format_args!("{} is a directory", path.display()));
        return Err(failure.next(format_args!("name the files in it: {}/*.pcap*", path.display())));
    }
    if !found.is_file() {
        // It is read twice: to know it again by its content, and to go on with it after an interruption.
        let failure =
            Failure::failed(format_args!("{} is not a file but a pipe or a device", path.display()));
        return Err(
            failure.next("save it as a file first; an interface is recorded with tapdeck record -i IF")
        );
    }
    let file = File::open(path).map_err(cannot)?;
    let mut head = Vec::new();
    file.take(HEAD_LEN).read_to_end(&mut head).map_err(cannot)?;
    if let Some((with, unpack)) = packed(&head) {
        return Err(Failure::failed(format_args!("{} is compressed with {with}", path.display()))
            .next(format_args!("unpack it first: {unpack} {}", path.display())));
    }
    let (links, first) = first_steps(&head);
    match links.first() {
        Some(link) if !links.iter().any(|link| is_understood(*link)) => {
            let failure = Failure::failed(format_args!(
                "{} has link type {link}, which tapdeck does not understand",
                path.display()
            ));
            Err(failure.next("give captures of Ethernet, Linux cooked capture, raw IP or BSD loopback; nothing was imported"))
        }
        _ => Ok(first),
    }
}

/// What a file is compressed with, by its first bytes, and what unpacks it.
fn packed(head: &[u8]) -> Option<(&'static str, &'static str)> {
    const MAGICS: [(&[u8], &str, &str); 6] = [
        (&[0x1f, 0x8b], "gzip", "gunzip --keep"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd", "unzstd"),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz", "unxz --keep"),
        (b"BZh", "bzip2", "bunzip2 --keep"),
        (&[0x04, 0x22, 0x4d, 0x18], "lz4", "unlz4"),
        (b"PK\x03\x04", "zip", "unzip"),
    ];
    MAGICS.iter().find(|(magic, ..)| head.starts_with(magic)).map(|(_, with, unpack)| (*with, *unpack))
}

/// The link types of the interfaces that stand before the first packet, and its time.
fn first_steps(head: &[u8]) -> (Vec<LinkType>, Option<CaptureTime>) {
    let mut parser = FileParser::default();
    let (mut at, mut links) = (0, Vec::new());
    loop {
        match parser.next(&head[at..], false) {
            Ok(Step::Interface(interface)) => links.push(interface.link),
            Ok(Step::Skip) => {}
            Ok(Step::Record { time, .. }) => return (links, Some(time)),
            _ => return (links, None),
        }
        at += parser.consumed();
    }
}

fn is_understood(link: LinkType) -> bool {
    !matches!(wire::dissect(link, &[]), Err(Undissected::UnknownLink(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(link: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let header: Vec<u8> =
            [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, link].iter().flat_map(|n| n.to_le_bytes()).collect();
        std::fs::write(file.path(), header).unwrap();
        file
    }

    #[test]
    fn unknown_link_types_are_named() {
        assert!(check(file(1).path()).is_ok());
        assert!(check(file(276).path()).is_ok());
        let failure = check(file(147).path()).unwrap_err();
        assert!(failure.to_string().contains("link type 147"), "{failure}");
    }

    #[test]
    fn compressed_files_and_pipes_are_named_as_such() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]).unwrap();
        let failure = check(file.path()).unwrap_err().to_string();
        assert!(failure.contains("gzip"), "{failure}");
        let failure = check(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(failure.contains("pipe or a device"), "{failure}");
    }

    #[test]
    fn what_is_missing_or_a_directory_is_refused() {
        assert!(check(Path::new("/nonexistent.pcap")).is_err());
        assert!(check(Path::new("/")).is_err());
    }
}
