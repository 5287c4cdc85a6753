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
/// Steps of the clock that are told apart. Behind so many it goes by time alone.
const STEPS_MAX: usize = 4096;
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
    /// The latest time since the clock was set back.
    latest: CaptureTime,
    /// How many times it was set back before the packet at hand.
    steps: usize,
}

/// Where the capture clock was set back: for each time the latest packet before, of all tracks. Tracks are merged by what lies between two of these first,
/// and by time there: one that has come to the step waits until the others come there, not until the clock shows the same time again.
#[derive(Default)]
struct Steps(Vec<CaptureTime>);

impl Steps {
    /// A track that was at `latest` found its `n`th step.
    fn found(&mut self, n: usize, latest: CaptureTime) {
        match self.0.get_mut(n - 1) {
            Some(before) => *before = latest.max(*before),
            None => self.0.push(latest),
        }
    }

    /// A packet so late after `steps` steps is behind the next, too: a track with few packets can pass over one unseen.
    fn pass(&self, steps: usize, time: CaptureTime) -> usize {
        let rest = self.0.get(steps..).unwrap_or_default();
        steps + rest.iter().take_while(|before| time.nanos_since(**before) > BACK_NANOS).count()
    }
}

impl Track {
    fn open(slot: usize, pictures: Pictures) -> Result<Self, SourceError> {
        let mut track = Self { slot, pictures, head: None, latest: CaptureTime::MIN, steps: 0 };
        track.next(&mut Steps::default())?;
        Ok(track)
    }

    /// Takes the packet at hand, and goes on to the next.
    fn next(&mut self, steps: &mut Steps) -> Result<Option<Packet>, SourceError> {
        let next = self.pictures.next()?;
        if let Some(next) = &next {
            if self.latest != CaptureTime::MIN
                && self.latest.nanos_since(next.time) > BACK_NANOS
                && self.steps < STEPS_MAX
            {
                self.steps += 1;
                steps.found(self.steps, self.latest);
                self.latest = next.time;
            }
            self.latest = self.latest.max(next.time);
        }
        Ok(std::mem::replace(&mut self.head, next))
    }

    /// Whose turn it is: the least.
    fn turn(&self, steps: &Steps) -> Option<(usize, CaptureTime)> {
        let time = self.head.as_ref()?.time;
        Some((steps.pass(self.steps, time), time))
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
    steps: Steps,
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
        Ok(Self { tracks, steps: Steps::default() })
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
            let Self { tracks, steps } = self;
            let waiting = tracks.iter_mut().filter(|t| t.head.is_some());
            let Some(track) = waiting.min_by_key(|t| t.turn(steps)) else { break };
            // What a track passed over unseen, it has passed.
            track.steps = track.turn(steps).map_or(track.steps, |(steps, _)| steps);
            let Some(mut packet) = track.next(steps)? else { break };
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

    fn read(tracks: Vec<Track>) -> Vec<(usize, i64)> {
        let mut reader = MergedReader { tracks, steps: Steps::default() };
        let mut queue = reader.read(usize::MAX, CaptureTime::MAX).unwrap();
        std::iter::from_fn(|| queue.pop()).map(|(slot, packet)| (slot, packet.time.millis())).collect()
    }

    /// Both go on side by side, and the time steps back once.
    #[test]
    fn a_clock_that_was_set_back_holds_no_track_up() {
        let set_back = |ms: i64| if ms < 5000 { ms } else { ms - 3_600_000 };
        let pictures = track(0, (0..10_000).step_by(40).map(set_back));
        let sound = track(1, (7..10_000).step_by(20).map(set_back));
        let given = read(vec![pictures, sound]);
        assert_eq!(given.len(), 250 + 500);
        assert_eq!(given.windows(2).filter(|pair| pair[1].1 < pair[0].1).count(), 1);
        for some in given.chunks(75) {
            let pictures = some.iter().filter(|(slot, _)| *slot == 0).count();
            assert!((24..=26).contains(&pictures), "{pictures} of 25");
        }
    }

    /// Its times only ever rise: it has passed the step when they are beyond it.
    #[test]
    fn a_track_of_few_packets_passes_a_step_unseen() {
        let set_back = |ms: i64| if ms < 5000 { ms } else { ms - 3000 };
        let pictures = track(0, (0..60_000).step_by(40).map(set_back));
        let told = track(1, (0..60_000).step_by(10_000).map(set_back));
        let given = read(vec![pictures, told]);
        let places: Vec<_> =
            given.iter().enumerate().filter(|(_, (slot, _))| *slot == 1).map(|(n, _)| n).collect();
        let apart: Vec<_> = places.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(apart, [251; 5], "as often as the picture's two hundred and fifty");
    }
}
