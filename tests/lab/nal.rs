//! NAL units of an Annex B file, and what it means that two recordings hold the same video.

use std::path::Path;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    H264,
    H265,
}

impl Codec {
    /// Parameter sets and delimiters: what a recorder may repeat or leave out without touching the video.
    fn is_auxiliary(self, nal: &[u8]) -> bool {
        match self {
            Codec::H264 => matches!(nal[0] & 0x1f, 7..=9),
            Codec::H265 => matches!((nal[0] >> 1) & 0x3f, 32..=35),
        }
    }

    /// A part of a picture, no message beside it.
    fn is_slice(self, nal: &[u8]) -> bool {
        match self {
            Codec::H264 => matches!(nal[0] & 0x1f, 1..=5),
            Codec::H265 => (nal[0] >> 1) & 0x3f < 32,
        }
    }

    pub fn is_key(self, nal: &[u8]) -> bool {
        match self {
            Codec::H264 => nal[0] & 0x1f == 5,
            Codec::H265 => (16..=21).contains(&((nal[0] >> 1) & 0x3f)),
        }
    }
}

/// Splits at start codes of three or four bytes. A NAL unit never ends in a zero byte, so what is cut there belongs to the next start code.
pub fn split(annex_b: &[u8]) -> Vec<Vec<u8>> {
    let mut starts = Vec::new();
    let mut at = 0;
    while at + 3 <= annex_b.len() {
        if annex_b[at..at + 3] == [0, 0, 1] {
            starts.push(at);
            at += 3;
        } else {
            at += 1;
        }
    }
    let ends = starts.iter().skip(1).copied().chain([annex_b.len()]);
    let units = starts.iter().zip(ends).map(|(&start, end)| {
        let unit = &annex_b[start + 3..end];
        let len = unit.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        unit[..len].to_vec()
    });
    units.filter(|u| !u.is_empty()).collect()
}

/// The NAL units of a file, without those that may be repeated.
pub fn video(path: &Path, codec: Codec) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    split(&bytes).into_iter().filter(|n| !codec.is_auxiliary(n)).collect()
}

fn parameter_sets(path: &Path, codec: Codec) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).expect("was read before");
    let mut sets: Vec<_> = split(&bytes).into_iter().filter(|n| codec.is_auxiliary(n)).collect();
    sets.retain(|n| codec != Codec::H264 || n[0] & 0x1f != 9);
    sets.sort();
    sets.dedup();
    sets
}

/// Where `part` stands in `whole`, as one unbroken run.
pub fn position<T: PartialEq>(whole: &[T], part: &[T]) -> Option<usize> {
    if part.is_empty() || part.len() > whole.len() {
        return None;
    }
    whole.windows(part.len()).position(|w| w == part)
}

/// Asserts that all of the VMS's video stands in the export, in order, byte for byte, with nothing in between, and that the export
/// has the parameter sets that the VMS had. (The mirror heard a little more at both ends than the VMS kept.)
pub fn assert_same_video(export: &Path, truth: &Path, codec: Codec) {
    let (ours, theirs) = (video(export, codec), video(truth, codec));
    assert!(
        theirs.len() >= 10,
        "{} holds only {} NAL units: no truth to compare with",
        truth.display(),
        theirs.len()
    );
    if position(&ours, &theirs).is_none() {
        panic!("{} differs from {}: {}", export.display(), truth.display(), first_difference(&ours, &theirs));
    }
    let sets = parameter_sets(export, codec);
    for set in parameter_sets(truth, codec) {
        assert!(sets.contains(&set), "the export lacks a parameter set of the VMS's recording: {set:02x?}");
    }
}

/// Asserts that the export of a tap that came later is the rest of what the VMS recorded, from a key frame on.
pub fn assert_rest_of_video(export: &Path, truth: &Path, codec: Codec) {
    let (ours, theirs) = (video(export, codec), video(truth, codec));
    let first = ours.iter().position(|n| codec.is_key(n)).expect("the export holds a key frame");
    let ours = &ours[first..];
    let at = theirs
        .iter()
        .position(|n| *n == ours[0])
        .expect("the export's first key frame is in the VMS's recording");
    let rest = &theirs[at..];
    assert!(rest.len() >= 8, "only {} NAL units overlap", rest.len());
    assert!(ours.starts_with(rest), "{}", first_difference(ours, rest));
}

/// For each picture of a file, from its first key frame on, whether it is a key picture. For one slice a picture.
pub fn is_key_picture(path: &Path, codec: Codec) -> Vec<bool> {
    let units = video(path, codec).into_iter().filter(|n| codec.is_slice(n));
    units.map(|n| codec.is_key(&n)).skip_while(|key| !key).collect()
}

/// Writes what stands in `file` from its first key frame on, parameter sets before it, to `to`. A VMS that joins a running camera may
/// record from the middle of a group of pictures; what comes before the key frame can't be decoded by anyone.
pub fn from_key_frame(file: &Path, codec: Codec, to: &Path) {
    let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut units = split(&bytes);
    // A delimiter whose picture was not recorded any more.
    while units.last().is_some_and(|n| codec.is_auxiliary(n)) {
        units.pop();
    }
    let key = units.iter().position(|n| codec.is_key(n)).expect("a recording holds a key frame");
    let sets = units[..key].iter().filter(|n| codec.is_auxiliary(n));
    let mut out = Vec::new();
    for unit in sets.chain(&units[key..]) {
        out.extend([0, 0, 0, 1]);
        out.extend(unit);
    }
    std::fs::write(to, out).expect("a test's own directory");
}

fn first_difference(ours: &[Vec<u8>], theirs: &[Vec<u8>]) -> String {
    let Some(at) = ours.iter().position(|n| *n == theirs[0]) else {
        return format!(
            "the VMS's first NAL unit ({} bytes) is not among our {}",
            theirs[0].len(),
            ours.len()
        );
    };
    for (i, unit) in theirs.iter().enumerate() {
        match ours.get(at + i) {
            None => return format!("ours ends after {i} of the VMS's {} NAL units", theirs.len()),
            Some(our) if our != unit => {
                let byte =
                    our.iter().zip(unit).position(|(a, b)| a != b).unwrap_or(our.len().min(unit.len()));
                let elsewhere = ours.iter().any(|n| n == unit);
                return format!(
                    "NAL unit {i} of {}: ours has {} bytes, the VMS's {}, they differ from byte {byte} on; the VMS's stands elsewhere in ours: {elsewhere}",
                    theirs.len(),
                    our.len(),
                    unit.len()
                );
            }
            Some(_) => {}
        }
    }
    "no difference".into()
}
