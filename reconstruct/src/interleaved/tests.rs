//! Framing at every split point, after holes, stray bytes and in mid-stream.

use super::*;
use crate::span::Location;
use capture::ShardId;
use proptest::prelude::*;

const REPLY: &[u8] = b"RTSP/1.0 200 OK\r\nCSeq: 3\r\nContent-length : 9\r\n\r\nv=0 $\x00\x00\x10 ";
const REQUEST: &[u8] = b"GET_PARAMETER rtsp://198.18.0.1/ RTSP/1.0\r\nCSeq: 4\r\n\r\n";

fn rtp(n: u16, len: usize) -> Vec<u8> {
    let mut p = vec![0x80, 96];
    p.extend_from_slice(&n.to_be_bytes());
    p.extend((4..len).map(|i| (i * 37 + usize::from(n) * 11) as u8));
    p
}

fn frame(channel: u8, content: &[u8]) -> Vec<u8> {
    let mut f = vec![b'$', channel];
    f.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
    f.extend_from_slice(content);
    f
}

fn at(position: usize) -> Location {
    Location { shard: ShardId(1), record: 0, entry: 0, offset: position as u32 }
}

fn slice(bytes: &[u8], position: usize) -> Slice<'_> {
    Slice { bytes, at: at(position), time: CaptureTime::default() }
}

/// What was found; frames' content read back through their pieces, whose offsets are stream positions here.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    frames: Vec<(u8, Vec<u8>, u32)>,
    messages: Vec<Vec<u8>>,
    text: Vec<u8>,
    broken: usize,
    skipped: u64,
}

impl Seen {
    fn add(&mut self, stream: &[u8], event: &InterleavedEvent<'_>) {
        match *event {
            InterleavedEvent::Frame(f) => {
                let piece = |p: &Piece| stream[p.offset as usize..][..p.len as usize].to_vec();
                let content: Vec<u8> = f.pieces.iter().flat_map(piece).collect();
                assert_eq!(content.len() as u32 + f.missing, u32::from(f.len));
                if f.missing == 0 {
                    let lens = head_wanted(&content).min(content.len())..=HEAD_MAX.min(content.len());
                    assert!(lens.contains(&f.head.len()), "{} bytes of {}", f.head.len(), content.len());
                }
                assert!(content.starts_with(f.head));
                self.frames.push((f.channel, content, f.missing));
            }
            InterleavedEvent::Text(Slice { bytes, at, .. }) => {
                assert_eq!(bytes, &stream[at.offset as usize..][..bytes.len()]);
                self.text.extend_from_slice(bytes);
            }
            InterleavedEvent::TextEnd => self.messages.push(std::mem::take(&mut self.text)),
            InterleavedEvent::Broken => {
                self.broken += 1;
                self.text.clear();
            }
            InterleavedEvent::Skipped { bytes } => self.skipped += bytes,
        }
    }
}

/// Feeds the ranges of `stream`; what lies between them is a hole.
fn feed(stream: &[u8], ranges: impl IntoIterator<Item = (usize, usize)>, syn: bool) -> (Seen, Interleaved) {
    let mut seen = Seen::default();
    let mut framing = Interleaved::default();
    let mut position = None;
    framing.handle_start(syn, &mut |e| seen.add(stream, e));
    for (begin, end) in ranges {
        let hole = begin - position.unwrap_or(begin);
        if hole > 0 {
            framing.handle_hole(hole as u64, &mut |e| seen.add(stream, e));
        }
        if begin < end {
            let time = CaptureTime::from_nanos(begin as i64);
            framing.handle_data(&Slice { bytes: &stream[begin..end], at: at(begin), time }, &mut |e| {
                seen.add(stream, e)
            });
        }
        position = Some(end);
    }
    framing.finish(&mut |e| seen.add(stream, e));
    (seen, framing)
}

fn conversation() -> (Vec<u8>, Seen) {
    let mut seen = Seen::default();
    let mut stream = REPLY.to_vec();
    seen.messages.push(REPLY.to_vec());
    for n in 0..8u16 {
        let content = rtp(n, 20 + usize::from(n) * 90);
        stream.extend(frame((n % 2) as u8 * 2, &content));
        seen.frames.push(((n % 2) as u8 * 2, content, 0));
        if n == 3 {
            stream.extend_from_slice(REQUEST);
            seen.messages.push(REQUEST.to_vec());
        }
    }
    (stream, seen)
}

#[test]
fn the_same_at_every_split_point() {
    let (stream, expected) = conversation();
    for a in 0..=stream.len() {
        let b = stream.len().min(a + 1 + a % 7);
        let (seen, _) = feed(&stream, [(0, a), (a, b), (b, stream.len())], true);
        assert_eq!(seen, expected, "split at {a} and {b}");
    }
    let (seen, _) = feed(&stream, (0..stream.len()).map(|n| (n, n + 1)), true);
    assert_eq!(seen, expected);
}

#[test]
fn picked_up_in_mid_stream_at_every_byte() {
    let (stream, expected) = conversation();
    let first_frame = REPLY.len();
    let mut ends = vec![first_frame];
    let mut position = first_frame;
    for (n, f) in expected.frames.iter().enumerate() {
        position += 4 + f.1.len() + if n == 3 { REQUEST.len() } else { 0 };
        ends.push(position);
    }
    for begin in (first_frame + 1..ends[4]).step_by(3) {
        let first = ends.iter().position(|e| *e >= begin).unwrap();
        let (seen, framing) = feed(&stream, [(begin, begin + 50), (begin + 50, stream.len())], false);
        assert_eq!(seen.frames, expected.frames[first..], "from {begin}");
        assert_eq!(framing.stats().searches, 1);
    }
}

#[test]
fn hole_within_a_frame_damages_only_it() {
    let (stream, expected) = conversation();
    let begin = REPLY.len() + 24 + 4 + 30;
    let (seen, framing) = feed(&stream, [(0, begin), (begin + 40, stream.len())], true);
    assert_eq!(seen.frames[1].2, 40);
    assert_eq!(seen.frames[1].1[..30], expected.frames[1].1[..30]);
    assert_eq!(seen.frames[2..], expected.frames[2..]);
    assert_eq!((framing.stats().searches, framing.stats().damaged), (0, 1));
}

#[test]
fn hole_across_frames_is_searched_through() {
    let mut stream = Vec::new();
    for n in 0..20 {
        stream.extend(frame(0, &rtp(n, 300)));
    }
    let (seen, framing) = feed(&stream, [(0, 304 * 3 + 100), (304 * 6 + 50, stream.len())], true);
    let numbers: Vec<u8> = seen.frames.iter().map(|f| f.1[3]).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
    assert_eq!((seen.frames[3].2, seen.skipped), (204, 254));
    assert_eq!(framing.stats().searches, 1);
}

#[test]
fn stray_bytes_between_frames() {
    let mut stream = Vec::new();
    for n in 0..10 {
        stream.extend(frame(2, &rtp(n, 100)));
        if n == 4 {
            stream.extend_from_slice(b"\x00$stray$\x00\x00\x01");
        }
    }
    let (seen, _) = feed(&stream, (0..stream.len()).step_by(77).map(|n| (n, stream.len().min(n + 77))), true);
    assert_eq!(seen.frames.len(), 10);
    assert_eq!(seen.skipped, 11);
}

#[test]
fn text_cut_by_a_hole() {
    let (stream, expected) = conversation();
    let (seen, _) = feed(&stream, [(0, 20), (30, stream.len())], true);
    assert_eq!(seen.broken, 1);
    assert_eq!(seen.messages, [REQUEST]);
    assert_eq!(seen.frames, expected.frames);
    let body = REPLY.len() - 6;
    let (seen, framing) = feed(&stream, [(0, body), (body + 3, stream.len())], true);
    assert_eq!((seen.broken, framing.stats().searches), (1, 0));
    assert_eq!(seen.frames, expected.frames);
}

#[test]
fn other_protocols_sleep_and_wake() {
    let mut tls: Vec<u8> = (0..600_000usize).map(|n| (n * n / 7 + n) as u8 | 0x40).collect();
    let (seen, framing) = feed(&tls, (0..400).map(|n| (n * 1448, (n + 1) * 1448)), false);
    assert!(seen.frames.is_empty() && seen.messages.is_empty());
    assert!(framing.held_bytes() <= SEARCH_MAX + 1448);
    tls[0] = 0x16;
    let mut framing = Interleaved::default();
    framing.handle_start(true, &mut |_| {});
    framing.handle_data(&slice(&tls[..1000], 0), &mut |_| panic!());
    assert!(framing.is_dormant());
    let mut messages = 0;
    framing.handle_data(&slice(REQUEST, 0), &mut |e| {
        messages += usize::from(*e == InterleavedEvent::TextEnd);
    });
    assert_eq!(messages, 1);
}

#[test]
fn two_frames_at_the_end_of_a_stream_are_enough() {
    let stream = [frame(0, &rtp(1, 50)), frame(0, &rtp(2, 50))].concat();
    let (seen, _) = feed(&stream, [(0, stream.len())], false);
    assert_eq!(seen.frames.len(), 2);
}

#[test]
fn survives_a_checkpoint_anywhere() {
    let (stream, expected) = conversation();
    let mut seen = Seen::default();
    let mut framing = Interleaved::default();
    framing.handle_start(true, &mut |_| {});
    for n in (0..stream.len()).step_by(5) {
        let end = stream.len().min(n + 5);
        framing.handle_data(&slice(&stream[n..end], n), &mut |e| seen.add(&stream, e));
        let kept = postcard::to_stdvec(&framing).unwrap();
        framing = postcard::from_bytes(&kept).unwrap();
    }
    assert_eq!(seen, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any splits and any holes: frames that lie outside holes and have two good successors come out as they are, and
    /// nothing comes out that was not sent.
    #[test]
    fn nothing_is_invented(
        lens in proptest::collection::vec(12usize..1500, 5..40),
        cuts in proptest::collection::vec((1usize..2000, any::<bool>()), 1..60),
        syn in any::<bool>(),
    ) {
        let frames: Vec<Vec<u8>> = lens.iter().enumerate().map(|(n, l)| rtp(n as u16, *l)).collect();
        let stream: Vec<u8> = frames.iter().flat_map(|f| frame(0, f)).collect();
        let mut position = 0;
        let mut ranges = Vec::new();
        for (n, (len, hole)) in cuts.iter().enumerate() {
            let end = stream.len().min(position + len);
            if n == 0 || !hole {
                ranges.push((position, end));
            }
            position = end;
        }
        let (seen, _) = feed(&stream, ranges, syn);
        for (channel, content, missing) in &seen.frames {
            prop_assert_eq!(*channel, 0);
            if *missing == 0 {
                prop_assert!(frames.contains(content));
            }
        }
        prop_assert!(seen.frames.iter().filter(|f| f.2 == 0).is_sorted_by_key(|f| (f.1[2], f.1[3])));
    }

    /// Arbitrary bytes, split and holed: no panic, bounded, everything accounted for.
    #[test]
    fn arbitrary_bytes(
raw in proptest::collection::vec(any::<u8>(), 0..3000),
        text in any::<bool>(),
        cuts in proptest::collection::vec(1usize..200, 1..60),
        syn in any::<bool>(),
    ) {
        // Many of the bytes that matter.
        let telling = |b: u8| match b { 0..64 => b'$', 64..128 => 0, 128..192 => 0x80, b => b };
        let mut bytes: Vec<u8> = raw.into_iter().map(telling).collect();
        if text && bytes.len() > REPLY.len() {
            bytes[..REPLY.len()].copy_from_slice(REPLY);
        }
        let mut position = 0;
        let mut ranges = Vec::new();
        for len in cuts {
            let end = bytes.len().min(position + len);
            if len % 5 != 0 {
                ranges.push((position, end));
            }
            position = end;
        }
        feed(&bytes, ranges, syn);
    }
}

/// Of a fragment that goes on with a unit only the headers are kept, where it lies in two segments; of everything else what all codecs look at.
#[test]
fn of_what_lies_in_two_segments_as_much_is_kept_as_is_looked_at() {
    let head_of = |payload: &[u8], split: usize| {
        let mut content = rtp(1, 12);
        content.extend_from_slice(payload);
        content.resize(600, 0x55);
        let stream = frame(0, &content);
        let mut framing = Interleaved::default();
        framing.handle_start(true, &mut |_| {});
        let mut len = None;
        let mut sink = |e: &InterleavedEvent<'_>| {
            if let InterleavedEvent::Frame(f) = e {
                len = Some(f.head.len());
            }
        };
        framing.handle_data(&slice(&stream[..split], 0), &mut sink);
        framing.handle_data(&slice(&stream[split..], split), &mut sink);
        len.unwrap()
    };
    for (payload, kept) in [
        (&[0x7c, 0x05][..], 28),
        (&[0x62, 0x01, 0x13], 28),
        (&[0x7c, 0x85], HEAD_MAX),
        (&[0x62, 0x01, 0x93], HEAD_MAX),
        (&[0x67, 0x42], HEAD_MAX),
        (&[0x78, 0x00], HEAD_MAX),
    ] {
        assert_eq!(head_of(payload, 300), kept, "{payload:x?}");
        // Split before its headers are there, it is not known what it is.
        assert_eq!(head_of(payload, 10), HEAD_MAX, "{payload:x?}");
    }
}
