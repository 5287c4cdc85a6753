//! A cursor: one stream's RTP packets in sequence order, from any time on.
//!
//! Owns the way through a segment's packets and on to the next segment; one session at a time, never a mixture. What retention deletes while it reads is skipped: it goes on in the next shard that is there.
//! Costs: a block of either level decoded (about 50 KiB), [`AHEAD`] packets' places read ahead of the one that is given, and
//! what the reorder window holds (views of mappings).

use super::lanes::Lanes;
use super::pieces::{Fetched, Pieces};
use super::seek::{self, Entrance, Rule};
use super::{Footage, FootageError, MediaPacket, ReorderLimits, Reorderer, Start};
use crate::index::{MediaEntry, MediaFlags, StreamId};
use capture::CaptureTime;
use std::collections::VecDeque;

/// Packets whose records the system is told to fetch before they are touched.
const AHEAD: usize = 64;
/// Segments that ended, which are not entered again; of more, the oldest are so far back that no search finds them.
const ENDED_MAX: usize = 1024;

/// What a cursor could not give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CursorStats {
    /// Packets that retention deleted in the meantime.
    pub gone: u64,
    /// Packets whose bytes in the shard are damaged.
    pub damaged: u64,
    /// Packets that came twice, or too late for the reorder window.
    pub late: u64,
    /// Packets of which the capture has only the beginning.
    pub cut: u64,
    /// Packets between the end of a session and the next clean point of the one beside it, into which it went.
    pub between: u64,
}

/// Reads a stream's packets. [`next`](Self::next) can be called again after `None`: a recording may have gone on.
pub struct Cursor {
    footage: Footage,
    stream: StreamId,
    to: CaptureTime,
    at: Option<At>,
    /// How to enter, while nothing was found to enter.
    start: (CaptureTime, Start),
    ended: VecDeque<crate::index::SegmentId>,
    pieces: Pieces,
    window: Reorderer,
    /// Everything up to here was given.
    given: Option<CaptureTime>,
    stats: CursorStats,
    /// Of the index when it was opened.
    numbering: u64,
}

/// Where in a segment.
struct At {
    lanes: Lanes,
    /// Packets are left out until one fits.
    rule: Option<Rule>,
    /// Latest capture time seen in the segment.
    latest: CaptureTime,
    /// A packet beyond the end was seen.
    beyond: bool,
}

impl Cursor {
    pub(super) fn open(
        footage: Footage,
        stream: StreamId,
        from: CaptureTime,
        to: CaptureTime,
        start: Start,
    ) -> Result<Self, FootageError> {
        let mut cursor = Self {
            numbering: footage.index().numbering(),
            footage,
            stream,
            to,
            at: None,
            start: (from, start),
            ended: VecDeque::new(),
            pieces: Pieces::default(),
            window: Reorderer::new(ReorderLimits::default()),
            given: None,
            stats: CursorStats::default(),
        };
        cursor.footage.refresh()?;
        cursor.enter_first()?;
        Ok(cursor)
    }

    /// What could not be given so far.
    pub fn stats(&self) -> CursorStats {
        CursorStats { late: self.window.dropped(), ..self.stats }
    }

    /// The next packet in sequence order; `None` when there is none (yet).
    #[allow(clippy::should_implement_trait, reason = "it goes on after None, and fails")]
    pub fn next(&mut self) -> Result<Option<MediaPacket>, FootageError> {
        if self.footage.index().numbering() != self.numbering {
            return Err(FootageError::Renumbered);
        }
        loop {
            if let Some(packet) = self.window.pop() {
                return Ok(Some(self.give(packet)));
            }
            if self.at.as_ref().is_some_and(|at| at.beyond) {
                return Ok(self.window.flush().map(|packet| self.give(packet)));
            }
            if self.read_one()? {
                continue;
            }
            // The segment has nothing more at the moment.
            if let Some(packet) = self.window.flush() {
                return Ok(Some(self.give(packet)));
            }
            self.footage.refresh()?;
            if self.more_of_segment()? {
                continue;
            }
            if !self.enter_next()? {
                return Ok(None);
            }
        }
    }

    fn give(&mut self, packet: MediaPacket) -> MediaPacket {
        self.given = Some(self.given.map_or(packet.time, |t| t.max(packet.time)));
        packet
    }

    fn enter_first(&mut self) -> Result<bool, FootageError> {
        let (from, start) = self.start;
        let entrance = seek::first(&self.footage, self.stream, (from, self.to), start)?;
        self.enter(entrance)
    }

    /// From a segment that ended to another.
    fn enter_next(&mut self) -> Result<bool, FootageError> {
        let Some(at) = &self.at else { return self.enter_first() };
        let after = self.given.map_or(at.latest, |given| given.max(at.latest)).max(self.start.0);
        if after >= self.to {
            return Ok(false);
        }
        let (segment, ended) = (at.lanes.segment(), self.ended.make_contiguous().to_vec());
        let ended = [&ended[..], &[segment]].concat();
        let entrance = seek::following(&self.footage, self.stream, after, &ended)?;
        if entrance.is_some() {
            if self.ended.len() == ENDED_MAX {
                self.ended.pop_front();
            }
            self.ended.push_back(segment);
        }
        self.enter(entrance)
    }

    fn enter(&mut self, entrance: Option<Entrance>) -> Result<bool, FootageError> {
        let Some(Entrance { block, rule, .. }) = entrance else { return Ok(false) };
        self.window.start_at(None);
        let mut lanes = Lanes::open(&self.footage, self.stream, block)?;
        let (Rule::LastCleanBefore(time) | Rule::FirstCleanFrom(time) | Rule::FirstFrom(time)) = rule;
        // Where everything is asked for, the time lies before all footage.
        let first = lanes.following(1).map(|e| e.time).next().unwrap_or(time);
        lanes.join(&self.footage, time.max(first))?;
        let mut at = At { lanes, rule: Some(rule), latest: CaptureTime::MIN, beyond: false };
        if let Rule::LastCleanBefore(time) = rule {
            at.rule = match self.begin_at_clean(&mut at, time)? {
                true => None,
                false => Some(Rule::FirstCleanFrom(CaptureTime::MIN)),
            };
        }
        self.at = Some(at);
        Ok(true)
    }

    /// Brings the lanes to the last clean point that is not after `time`; false when there is none in their blocks.
    fn begin_at_clean(&mut self, at: &mut At, time: CaptureTime) -> Result<bool, FootageError> {
        let fits = |e: &&MediaEntry| is_clean(e) && e.time.millis() <= time.millis();
        let last = |(block, entries): (_, &VecDeque<MediaEntry>)| {
            entries.iter().rfind(fits).map(|clean| (block, clean.seq, clean.timestamp, clean.time))
        };
        let of_lanes = at.lanes.iter().filter_map(|lane| last((lane.block, &lane.entries)));
        let Some((block, seq, timestamp, when)) = of_lanes.max_by_key(|clean| clean.3) else {
            return Ok(false);
        };
        if at.lanes.iter().count() > 1 {
            // The other lanes were opened at `time`, which can be in a later block.
            at.lanes = Lanes::open(&self.footage, self.stream, block)?;
            at.lanes.join(&self.footage, when)?;
        }
        // A delimiter or an SEI can come before the clean point in its picture, and anything can have been overtaken on the way.
        let picture = at.lanes.following(usize::MAX).filter(|e| e.timestamp == timestamp);
        let first = lowest(seq, picture, LEAD_MAX);
        at.lanes.iter_mut().for_each(|lane| lane.entries.retain(|e| e.seq >= first));
        self.window.start_at(Some(first));
        Ok(true)
    }

    fn prefetch(&mut self, at: &At) -> Result<(), FootageError> {
        for lane in at.lanes.iter() {
            let soon: Vec<MediaEntry> = lane.entries.iter().take(AHEAD).cloned().collect();
            self.pieces.prefetch(&self.footage, &soon)?;
        }
        Ok(())
    }

    /// Brings the segment's next packet into the window; false when the segment has none at the moment.
    fn read_one(&mut self) -> Result<bool, FootageError> {
        let Some(mut at) = self.at.take() else { return Ok(false) };
        let done = self.read_from(&mut at);
        self.at = Some(at);
        done
    }

    fn read_from(&mut self, at: &mut At) -> Result<bool, FootageError> {
        if !at.lanes.fill(&self.footage)? {
            return Ok(false);
        }
        let Some(lane) = at.lanes.due() else { return Ok(false) };
        let (runs_low, shard) = (lane.entries.len().is_multiple_of(AHEAD), lane.block.shard);
        if at.lanes.take_fresh() | runs_low {
            self.prefetch(at)?;
        }
        let Some(entry) = at.lanes.pop() else { return Ok(true) };
        at.latest = at.latest.max(entry.time);
        if entry.time.millis() > self.to.millis() {
            // What was overtaken by this one can still be wanted.
            at.beyond = entry.time.nanos_since(self.to) > ReorderLimits::default().nanos;
            return Ok(true);
        }
        if entry.flags.contains(MediaFlags::DUPLICATE) {
            return Ok(true);
        }
        match at.rule {
            Some(Rule::FirstCleanFrom(time))
                if !(is_clean(&entry) || leads_to_clean(&entry, &at.lanes))
                    || entry.time.millis() < time.millis() =>
            {
                let new = self.given.is_some_and(|given| entry.time.millis() > given.millis());
                self.stats.between += u64::from(new);
                return Ok(true);
            }
            Some(Rule::FirstFrom(time)) if entry.time.millis() < time.millis() => return Ok(true),
            _ => {}
        }
        match self.pieces.fetch(&self.footage, at.lanes.segment(), &entry)? {
            Fetched::Packet(packet) if packet.time > self.to => {}
            Fetched::Packet(packet) => {
                if let Some(rule @ (Rule::FirstCleanFrom(time) | Rule::FirstFrom(time))) = at.rule {
                    if packet.time < time {
                        return Ok(true);
                    }
                    self.window.start_at(Some(match rule {
                        Rule::FirstFrom(_) => first_from(&entry, &at.lanes),
                        _ => first_of_same(&entry, &at.lanes),
                    }));
                }
                at.rule = None;
                self.window.push(packet);
            }
            Fetched::Damaged => self.stats.damaged += 1,
            Fetched::Cut => self.stats.cut += 1,
            Fetched::Gone(gone) => {
                self.stats.gone += 1;
                if gone == shard {
                    // The rest of the shard went as well.
                    for lane in at.lanes.iter_mut().filter(|lane| lane.block.shard == gone) {
                        self.stats.gone += lane.entries.len() as u64;
                        lane.entries.clear();
                    }
                }
            }
        }
        Ok(true)
    }

    /// Whether the segment has grown since it seemed to be at its end.
    fn more_of_segment(&mut self) -> Result<bool, FootageError> {
        let Some(at) = &mut self.at else { return Ok(false) };
        at.lanes.look_again();
        at.lanes.fill(&self.footage)
    }
}

/// Packets of one picture that are looked at for what comes before its clean point: delimiters, SEI, parameter sets.
const LEAD_MAX: usize = 16;
/// Packets after the first one that are looked at for what it overtook.
const OVERTAKEN_MAX: usize = 64;

/// The sequence number with which the picture begins that `entry` is the first of to be there.
fn first_of_same(entry: &MediaEntry, following: &Lanes) -> u64 {
    let near = following.following(OVERTAKEN_MAX).filter(|e| e.timestamp == entry.timestamp);
    lowest(entry.seq, near, OVERTAKEN_MAX)
}

/// The lowest sequence number of what `entry` overtook, or its own.
fn first_from(entry: &MediaEntry, following: &Lanes) -> u64 {
    lowest(entry.seq, following.following(OVERTAKEN_MAX), OVERTAKEN_MAX)
}

/// The lowest sequence number of `near`, not further back than `reach`: a camera can begin to count anew.
fn lowest<'a>(seq: u64, near: impl Iterator<Item = &'a MediaEntry>, reach: usize) -> u64 {
    let lowest = seq.saturating_sub(reach as u64);
    near.map(|e| e.seq).filter(|seq| *seq >= lowest).fold(seq, u64::min)
}

/// Whether a packet belongs to a picture whose clean point follows it.
fn leads_to_clean(entry: &MediaEntry, following: &Lanes) -> bool {
    following.following(LEAD_MAX).any(|e| e.timestamp == entry.timestamp && is_clean(e))
}

fn is_clean(e: &MediaEntry) -> bool {
    e.flags.contains(MediaFlags::CLEAN) && !e.flags.contains(MediaFlags::DUPLICATE)
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
