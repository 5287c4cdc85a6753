//! Reads the tracks of a session from the store, merged by capture time. Blocking: runs on the blocking pool, so that a page
//! fault or a slow disk stalls nobody but the client that asked.

use crate::session::Plan;
use crate::source::{MediaKind, Packet, PacketReader, Source, SourceError, StartAt, TrackId};
use capture::CaptureTime;
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

/// Packets younger than this may lie in the recorder's staging memory: they are copied, so that no client that waits
/// (paces, pauses, stalls) keeps the tap from using that memory again.
const STAGED_AGE: Duration = Duration::from_secs(10);
const PAGE_LEN: usize = 4096;
/// So far back a packet is out of order; further back the clock was set.
const BACK_NANOS: i64 = 1_000_000_000;
/// The most packets of one picture that are held back: 16,384 of 1,400 bytes are a picture of 23 MB.
const PICTURE_PACKETS_MAX: usize = 16_384;

/// A track to read.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Its place in the session's player.
    pub slot: usize,
    /// The stream.
    pub id: TrackId,
    /// Video starts at a clean point.
    pub media: MediaKind,
    /// The end, included.
    pub to: CaptureTime,
}

struct Track {
    slot: usize,
    pictures: Pictures,
    head: Option<Packet>,
    clock: Clock,
}

/// A track's capture times, as if the clock had never been set back: tracks are merged by them, and one that has come to the step must not wait for
/// the other to come there in its own time.
#[derive(Default)]
struct Clock {
    /// The latest time as captured, since the last step.
    latest: Option<CaptureTime>,
    /// All steps so far.
    set_back: Duration,
}

impl Clock {
    /// The packet has the time that it would have had.
    fn correct(&mut self, packet: &mut Packet) {
        let latest = self.latest.unwrap_or(packet.time);
        let back = latest.nanos_since(packet.time);
        if back > BACK_NANOS {
            self.set_back += Duration::from_nanos(back.unsigned_abs());
            self.latest = Some(packet.time);
        } else {
            self.latest = Some(latest.max(packet.time));
        }
        packet.time = packet.time.plus(self.set_back);
    }
}

impl Track {
    fn open(slot: usize, pictures: Pictures) -> Result<Self, SourceError> {
        let mut track = Self { slot, pictures, head: None, clock: Clock::default() };
        track.next()?;
        Ok(track)
    }

    /// Takes the packet at hand, and goes on to the next.
    fn next(&mut self) -> Result<Option<Packet>, SourceError> {
        let mut next = self.pictures.next()?;
        if let Some(next) = &mut next {
            self.clock.correct(next);
        }
        Ok(std::mem::replace(&mut self.head, next))
    }
}

/// A track's packets, up to the last whole picture: footage that ends within one (the camera was told to stop, or `to` lies in
/// it) would make a strict decoder complain about what it has got.
struct Pictures {
    reader: Box<dyn PacketReader>,
    /// Whether pictures are kept together at all: not for sound, and not before live packets follow.
    whole: bool,
    /// Read, and not known to be of a whole picture yet. Bounded: beyond [`PICTURE_PACKETS_MAX`] they go out as they are.
    held: VecDeque<Packet>,
    /// How many of `held` may go out.
    ready: usize,
    /// Markers end pictures in this track: RFC 6184 section 5.1 asks for them, some cameras don't set any.
    marks: bool,
}

impl Pictures {
    fn new(reader: Box<dyn PacketReader>, whole: bool) -> Self {
        Self { reader, whole, held: VecDeque::new(), ready: 0, marks: false }
    }

    fn next(&mut self) -> Result<Option<Packet>, SourceError> {
        if !self.whole {
            return self.reader.next();
        }
        while self.ready == 0 {
            let Some(packet) = self.reader.next()? else {
                if self.marks {
                    self.held.clear();
                }
                return Ok(self.held.pop_front());
            };
            self.marks |= packet.marker;
            if self.held.back().is_some_and(|last| last.timestamp != packet.timestamp) {
                self.ready = self.held.len();
            }
            let marker = packet.marker;
            self.held.push_back(packet);
            if marker || self.held.len() > PICTURE_PACKETS_MAX {
                self.ready = self.held.len();
            }
        }
        self.ready -= 1;
        Ok(self.held.pop_front())
    }
}

/// The reader of a session.
pub struct MergedReader {
    tracks: Vec<Track>,
}

/// Packets that wait to be sent, with the slots of their tracks.
#[derive(Default)]
pub struct Queue {
    packets: VecDeque<(usize, Packet)>,
    bytes: usize,
}

impl Queue {
    /// Adds at the end.
    pub fn push(&mut self, slot: usize, packet: Packet) {
        self.bytes += packet.len();
        self.packets.push_back((slot, packet));
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<(usize, Packet)> {
        let first = self.packets.pop_front()?;
        self.bytes -= first.1.len();
        Some(first)
    }

    /// The first.
    pub fn front(&self) -> Option<&Packet> {
        self.packets.front().map(|(_, p)| p)
    }

    /// Bytes of all packets.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Moves everything of `other` to the end.
    pub fn append(&mut self, mut other: Queue) {
        self.bytes += other.bytes;
        self.packets.append(&mut other.packets);
    }

    /// Throws everything away, and says how many packets that were.
    pub fn clear(&mut self) -> u64 {
        let n = self.packets.len() as u64;
        self.packets.clear();
        self.bytes = 0;
        n
    }

    /// Throws a track's packets away.
    pub fn drop_slot(&mut self, slot: usize) {
        self.packets.retain(|(s, _)| *s != slot);
        self.bytes = self.packets.iter().map(|(_, p)| p.len()).sum();
    }

    /// Frees the recorder's memory: see [`Packet::detach`].
    pub fn detach(&mut self) {
        self.packets.iter_mut().for_each(|(_, p)| p.detach());
    }
}

/// How a reader starts.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The time asked for.
    pub from: CaptureTime,
    /// Where video begins from there; everything else begins with the video.
    pub at: StartAt,
    /// Ends with the last whole picture; false when live packets follow.
    pub whole: bool,
}

impl From<Plan> for Start {
    fn from(plan: Plan) -> Self {
        match plan {
            Plan::Live => Self { from: CaptureTime::MAX, at: StartAt::LiveEdge, whole: false },
            Plan::Recorded { from, resume: true, .. } => Self { from, at: StartAt::Exact, whole: true },
            Plan::Recorded { from, .. } => Self { from, at: StartAt::CleanPointBefore, whole: true },
        }
    }
}

impl MergedReader {
    /// Opens the tracks: video at the clean point at or before the time, everything else at the first video packet, so
    /// that sound and picture begin together.
    pub fn open(source: &dyn Source, wanted: &[Wanted], start: Start) -> Result<Self, SourceError> {
        let mut tracks = Vec::with_capacity(wanted.len());
        let mut from = start.from;
        let (video, other): (Vec<&Wanted>, Vec<&Wanted>) =
            wanted.iter().partition(|w| w.media == MediaKind::Video && start.at != StartAt::Exact);
        for w in video {
            let reader = source.reader(w.id, start.from, w.to, start.at)?;
            let track = Track::open(w.slot, Pictures::new(reader, start.whole))?;
            if let Some(head) = &track.head {
                from = from.min(head.time);
            }
            tracks.push(track);
        }
        for w in other {
            let reader = source.reader(w.id, from, w.to, StartAt::Exact)?;
            let pictures = Pictures::new(reader, start.whole && w.media == MediaKind::Video);
            tracks.push(Track::open(w.slot, pictures)?);
        }
        Ok(Self { tracks })
    }

    /// Reads a track no further.
    pub fn drop_slot(&mut self, slot: usize) {
        self.tracks.retain(|t| t.slot != slot);
    }

    /// The next packets, at most so many bytes (but one packet at least); empty at the end. `now` is the time of day.
    pub fn read(&mut self, bytes_max: usize, now: CaptureTime) -> Result<Queue, SourceError> {
        let staged_since = now.minus(STAGED_AGE);
        let mut queue = Queue::default();
        while queue.bytes() < bytes_max {
            let earliest = self.tracks.iter_mut().filter(|t| t.head.is_some());
            let Some(track) = earliest.min_by_key(|t| t.head.as_ref().map(|p| p.time)) else { break };
            let Some(mut packet) = track.next()? else { break };
            if packet.time >= staged_since {
                packet.detach();
            } else {
                touch(&packet);
            }
            queue.push(track.slot, packet);
        }
        Ok(queue)
    }
}

/// Faults the pages in here, so that the async worker that sends them finds them in memory.
fn touch(packet: &Packet) {
    for piece in &packet.pieces {
        for byte in piece.as_ref().iter().step_by(PAGE_LEN) {
            black_box(*byte);
        }
        black_box(piece.as_ref().last());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic;

    struct Given(VecDeque<Packet>);

    impl PacketReader for Given {
        fn next(&mut self) -> Result<Option<Packet>, SourceError> {
            Ok(self.0.pop_front())
        }
    }

    fn track(slot: usize, ms: impl Iterator<Item = i64>) -> Track {
        let packets = ms.enumerate().map(|(n, ms)| synthetic::packet(1, n as u64, 0, ms)).collect();
        Track::open(slot, Pictures::new(Box::new(Given(packets)), false)).unwrap()
    }

    /// Both go on side by side, as if nothing had happened.
    #[test]
    fn a_clock_that_was_set_back_holds_no_track_up() {
        let set_back = |ms: i64| if ms < 5000 { ms } else { ms - 3_600_000 };
        let pictures = track(0, (0..10_000).step_by(40).map(set_back));
        let sound = track(1, (7..10_000).step_by(20).map(set_back));
        let mut reader = MergedReader { tracks: vec![pictures, sound] };
        let mut queue = reader.read(usize::MAX, CaptureTime::MAX).unwrap();
        let (mut given, mut last) = (Vec::new(), CaptureTime::MIN);
        while let Some((slot, packet)) = queue.pop() {
            assert!(packet.time >= last, "and the time goes on");
            last = packet.time;
            given.push(slot);
        }
        assert_eq!(given.len(), 250 + 500);
        for some in given.chunks(75) {
            let pictures = some.iter().filter(|slot| **slot == 0).count();
            assert!((24..=26).contains(&pictures), "{pictures} of 25");
        }
    }
}
