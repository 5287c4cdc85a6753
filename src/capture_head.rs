//! A look at the head of a capture file, before anything is made or copied.

use crate::failure::{Failure, Outcome};
use capture::{FileParser, LinkType, Step};
use reconstruct::wire::{self, Undissected};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Headers and interface blocks of any real file are within this.
const HEAD_LEN: u64 = 256 << 10;

/// Refuses what can't be read, and a file none of whose first interfaces has a link type that is understood. What is
/// wrong with it otherwise is found, and told with its offset, when it is imported.
pub fn check(path: &Path) -> Outcome {
    let cannot = |error: io::Error| {
        Failure::failed(format_args!("cannot read {}: {error}", path.display()))
            .next("check the name and its permissions; nothing was imported")
    };
    let file = File::open(path).map_err(cannot)?;
    if file.metadata().map_err(cannot)?.is_dir() {
        let failure = Failure::failed(format_args!("{} is a directory", path.display()));
        return Err(failure.next(format_args!("name the files in it: {}/*.pcap*", path.display())));
    }
    let mut head = Vec::new();
    file.take(HEAD_LEN).read_to_end(&mut head).map_err(cannot)?;
    let links = link_types(&head);
    match links.first() {
        Some(link) if !links.iter().any(|link| is_understood(*link)) => {
            let failure = Failure::failed(format_args!(
                "{} has link type {link}, which tapdeck does not understand",
                path.display()
            ));
            Err(failure.next("it understands Ethernet, Linux cooked capture, raw IP and BSD loopback; nothing was imported"))
        }
        _ => Ok(()),
    }
}

/// The link types of the interfaces that stand before the first packet.
fn link_types(head: &[u8]) -> Vec<LinkType> {
    let mut parser = FileParser::default();
    let (mut at, mut links) = (0, Vec::new());
    loop {
        match parser.next(&head[at..], false) {
            Ok(Step::Interface(interface)) => links.push(interface.link),
            Ok(Step::Skip) => {}
            _ => return links,
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
    fn what_is_missing_or_a_directory_is_refused() {
        assert!(check(Path::new("/nonexistent.pcap")).is_err());
        assert!(check(Path::new("/")).is_err());
    }
}
