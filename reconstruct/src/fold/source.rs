//! One synchronisation source of a track: its packets put in order, placed into access units, written to its segment.
//!
//! Packets come out of here in sequence order: behind a hole they wait until the missing ones came or the sequence tracker
//! gives them up. What comes later still is written where it comes and belongs to no access unit.

use super::losses::Losses;
use super::media::{FlowFacts, Held, Media};
use super::output::{FoldStats, LiveMedia, Output};
use super::segment::Segment;
use super::streams::{SegmentEnd, Sender, Streams};
use crate::codec::{AccessUnits, Codec, GuessState, Look, Placed, guess, look};
use crate::index::{IndexBatch, MediaView};
use crate::model::{FlowId, GapCause, GapEvidence, GapRow, NextIds, SegmentRow, StreamId};
use crate::rtp::{RtpTimestamp, SequenceNumber};
use crate::sequence::{Arrival, Gap, SequenceTracker};
use capture::{CaptureTime, ShardId, TapId};
use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};
use std::collections::VecDeque;

/// So many packets in a row from another flow than the segment's begin a segment there, if there is one of that flow already.
const FLOW_RUN: u32 = 16;
/// Flows of a source that are remembered.
const FLOWS_MAX: usize = 8;

/// One source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Source {
    pub ssrc: u32,
    pub payload_type: u8,
    pub stream: StreamId,
    pub segment: Segment,
    /// The segment's row: what a restart's next segment has in common with it.
    row: SegmentRow,
    pub last: CaptureTime,
    codec: Option<Codec>,
    guess: Option<GuessState>,
    sequence: SequenceTracker,
    units: AccessUnits,
    /// Behind a hole, by extended sequence number.
    pending: VecDeque<Held>,
    /// The number that comes out next, once the first has.
    next: Option<u64>,
    /// When an earlier recording had the last packet of the same sequence.
    border: Option<CaptureTime>,
    /// One packet that may be the first of a restart.
    aside: Option<Held>,
    /// Bytes that the receiver acknowledged and the tap never saw, since the last packet.
    acknowledged_hole: u64,
    /// Where the last packet was written.
    place: (TapId, ShardId),
    /// Packets in a row that came in another flow than the segment's, and which.
    elsewhere: (FlowId, u32),
    /// Flows that it has had segments of.
    flows: SmallVec<[FlowId; 2]>,
}

/// What a source writes to.
pub struct Sinks<'a> {
    pub streams: &'a mut Streams,
    pub out: &'a mut Output,
    pub stats: &'a mut FoldStats,
    pub losses: &'a mut Losses,
    pub ids: &'a mut NextIds,
    pub pending_max: usize,
}

impl Source {
    /// Writes its segment's row.
    pub fn put_row(&self, batch: &mut IndexBatch) {
        batch.put_segment(&self.row);
    }

    /// A new source, of whose sequence an earlier recording may have had what comes before.
    pub fn new(media: &Media<'_>, row: SegmentRow, codec: Option<Codec>, before: Option<SegmentEnd>) -> Self {
        let (segment, row_flow) = (Segment::new(&row), row.flow);
        let first = SequenceNumber(media.head.seq);
        let sequence = before.and_then(|end| SequenceTracker::resume(&end.sequence, media.head.time, first));
        let before = before.filter(|_| sequence.is_some());
        Self {
            ssrc: media.head.ssrc,
            payload_type: media.head.payload_type,
            stream: segment.stream,
            segment,
            row,
            last: media.head.time,
            codec,
            guess: codec.is_none().then(GuessState::default),
            next: sequence.as_ref().and_then(SequenceTracker::next).map(|next| next.0),
            sequence: sequence.unwrap_or_default(),
            units: before.map(|end| end.units).unwrap_or_default(),
            pending: VecDeque::new(),
            border: before.map(|end| end.sequence.time()),
            aside: None,
            acknowledged_hole: 0,
            place: (media.head.tap, media.shard().unwrap_or(ShardId(0))),
            elsewhere: (row_flow, 0),
            flows: smallvec![row_flow],
        }
    }

    /// Who sends it, over which channel if interleaved.
    pub fn sender(&self, channel: Option<u8>) -> Sender {
        let SegmentRow { src, dst, ssrc, payload_type, .. } = self.row;
        Sender { src, dst, channel, ssrc, payload_type }
    }

    /// How far it has come.
    pub fn end(&self) -> Option<SegmentEnd> {
        let Self { row, units, .. } = self;
        self.sequence.end().map(|sequence| SegmentEnd { source: row.source, sequence, units: *units })
    }

    /// A packet with the beginning of its payload.
    #[inline]
    pub fn handle(
        &mut self,
        media: &Media<'_>,
        payload: &[u8],
        flow: impl Fn() -> FlowFacts,
        sinks: &mut Sinks<'_>,
    ) {
        let now = media.head.time;
        self.last = self.last.max(now);
        if self.guess.is_some() {
            self.learn(payload, media.head.marker, sinks);
        }
        match self.sequence.handle(now, SequenceNumber(media.head.seq), RtpTimestamp(media.head.timestamp)) {
            Arrival::First(ext) => {
                self.next = Some(ext.0.wrapping_add(1));
                self.release(media, ext.0, payload, sinks);
            }
            Arrival::InOrder(ext) if self.pending.is_empty() => {
                // The hole in the connection was another track's.
                self.acknowledged_hole = 0;
                if media.head.flow == self.row.flow {
                    self.elsewhere.1 = 0;
                } else {
                    self.handle_flow(media, flow, sinks);
                }
                self.next = Some(ext.0.wrapping_add(1));
                self.release(media, ext.0, payload, sinks);
            }
            Arrival::InOrder(ext) | Arrival::Ahead { sequence: ext, .. } => {
                self.hold(media, ext.0, payload, sinks)
            }
            Arrival::Late { sequence: ext, after_gap } => {
                if !after_gap && self.next.is_none_or(|next| ext.0 >= next) {
                    self.hold(media, ext.0, payload, sinks);
                    self.drain(sinks);
                } else {
                    if after_gap {
                        self.segment.found(media, &mut sinks.out.batch);
                    }
                    self.write(media, ext.0, Placed::default(), true, true, sinks);
                }
            }
            Arrival::Duplicate(_) => self.segment.duplicate(media, &mut sinks.out.batch),
            Arrival::Doubtful => self.aside = Some(Held::new(media, 0, payload)),
            Arrival::Restart { sequence, doubtful } => {
                self.restart(now, sinks);
                let aside = self.aside.take();
                if let (Some(first), Some(held)) = (doubtful, aside) {
                    self.release(&held.media(), first.0, &held.payload, sinks);
                }
                self.next = Some(sequence.0.wrapping_add(1));
                self.release(media, sequence.0, payload, sinks);
            }
        }
        if !self.pending.is_empty() {
            self.take_gaps(sinks);
        }
    }

    /// The next packet came in another flow: the camera sends from another port or address, or a router has changed it on the way. A segment is
    /// of one flow, by whose packets it is read. Packets that only looked in from another are kept by their records.
    #[cold]
    fn handle_flow(&mut self, media: &Media<'_>, flow: impl Fn() -> FlowFacts, sinks: &mut Sinks<'_>) {
        let (before, run) = self.elsewhere;
        let run = if before == media.head.flow { run + 1 } else { 1 };
        self.elsewhere = (media.head.flow, run);
        let known = self.flows.contains(&media.head.flow) || self.flows.len() >= FLOWS_MAX;
        if known && run < FLOW_RUN {
            return;
        }
        if !known {
            self.flows.push(media.head.flow);
        }
        self.segment.put_open(&mut sinks.out.batch);
        let FlowFacts { id, src, dst, vlans } = flow();
        self.row.id = sinks.ids.take_segment();
        (self.row.flow, self.row.src, self.row.dst, self.row.vlans) = (id, src, dst, vlans.to_vec());
        self.row.began = media.head.time;
        sinks.out.batch.put_segment(&self.row);
        self.segment = Segment::new(&self.row);
    }

    /// The camera counts on from somewhere else: a new segment, so that the jump is no hole.
    fn restart(&mut self, now: CaptureTime, sinks: &mut Sinks<'_>) {
        self.take_gaps(sinks);
        self.flush(sinks);
        self.segment.put_open(&mut sinks.out.batch);
        self.units.handle_gap();
        self.row.id = sinks.ids.take_segment();
        self.row.began = self.aside.as_ref().map_or(now, |first| first.head.time.min(now));
        sinks.out.batch.put_segment(&self.row);
        self.segment = Segment::new(&self.row);
    }

    /// The receiver acknowledged bytes that the tap did not see.
    pub fn handle_acknowledged_hole(&mut self, bytes: u64) {
        self.acknowledged_hole = self.acknowledged_hole.saturating_add(bytes);
    }

    /// Declares packets lost whose time is over.
    pub fn poll_gaps(&mut self, now: CaptureTime, sinks: &mut Sinks<'_>) {
        self.sequence.handle_timeout(now);
        self.take_gaps(sinks);
    }

    fn take_gaps(&mut self, sinks: &mut Sinks<'_>) {
        while let Some(gap) = self.sequence.poll_gap() {
            self.handle_gap(&gap, sinks);
        }
    }

    /// Nothing more will come: writes all that waits.
    pub fn finish(&mut self, sinks: &mut Sinks<'_>) {
        self.sequence.finish();
        self.take_gaps(sinks);
        self.flush(sinks);
        self.segment.put_open(&mut sinks.out.batch);
    }

    /// Writes all that waits, holes or not: no packet waits beyond the shard that it ends in.
    pub fn flush(&mut self, sinks: &mut Sinks<'_>) {
        while let Some(held) = self.pending.pop_front() {
            if self.next.is_some_and(|next| held.ext != next) {
                self.units.handle_gap();
            }
            self.next = Some(held.ext.wrapping_add(1));
            self.release_held(&held, sinks);
        }
    }

    fn hold(&mut self, media: &Media<'_>, ext: u64, payload: &[u8], sinks: &mut Sinks<'_>) {
        let late = self.pending.back().is_some_and(|last| last.ext > ext);
        if sinks.out.live {
            self.publish_early(media, ext, payload, sinks.out);
        }
        let mut held = Held::new(media, ext, payload);
        held.published = sinks.out.live;
        held.late = late;
        let at = self.pending.iter().rposition(|h| h.ext < ext).map_or(0, |at| at + 1);
        self.pending.insert(at, held);
        if self.pending.len() > sinks.pending_max {
            sinks.stats.pending_over_bound += 1;
            self.flush(sinks);
        }
    }

    /// Writes what waits, up to the next hole.
    fn drain(&mut self, sinks: &mut Sinks<'_>) {
        while let Some(front) = self.pending.front() {
            if self.next.is_some_and(|next| front.ext > next) {
                return;
            }
            let Some(held) = self.pending.pop_front() else { return };
            self.next = Some(held.ext.wrapping_add(1));
            self.release_held(&held, sinks);
        }
    }

    fn handle_gap(&mut self, gap: &Gap, sinks: &mut Sinks<'_>) {
        let packets = gap.last.0.saturating_sub(gap.first.0) + 1;
        let mut row = GapRow {
            segment: self.segment.id,
            stream: self.stream,
            shard: self.place.1,
            first_seq: gap.first.0,
            packets,
            // Those around it may have come the other way round.
            from: gap.before.min(gap.after),
            to: gap.before.max(gap.after),
            cause: GapCause::Undetermined,
            evidence: None,
        };
        if let Some(evidence) = sinks.losses.overlapping(row.from, row.to, &self.segment.taps()) {
            row.cause = GapCause::Recorder;
            row.evidence = Some(evidence);
        } else if self.acknowledged_hole > 0 {
            row.cause = GapCause::Mirror;
            row.evidence = Some(GapEvidence::TcpAcknowledged { bytes: self.acknowledged_hole });
        } else if self.border == Some(gap.before) {
            row.cause = GapCause::Recorder;
            row.evidence = Some(GapEvidence::BetweenRecordings);
        }
        self.acknowledged_hole = 0;
        // Packets before the gap come out first, so that the row belongs to where the packet after it is.
        while self.pending.front().is_some_and(|h| h.ext < gap.first.0) {
            let Some(held) = self.pending.pop_front() else { break };
            self.release_held(&held, sinks);
        }
        let place = match self.pending.front() {
            Some(held) => (held.head.tap, held.media().shard().unwrap_or(self.place.1)),
            None => self.place,
        };
        let (n, row) = self.segment.gap(row, place, &mut sinks.out.batch);
        sinks.losses.remember(n, row, self.segment.taps());
        self.units.handle_gap();
        self.next = Some(gap.last.0.wrapping_add(1));
        self.drain(sinks);
    }

    fn learn(&mut self, payload: &[u8], marker: bool, sinks: &mut Sinks<'_>) {
        let Some(state) = &mut self.guess else { return };
        if let Some(codec) = guess(state, payload, marker) {
            self.codec = Some(codec);
            self.guess = None;
            sinks.streams.learn_codec(self.stream, codec);
        }
    }

    /// The next packet in order.
    #[inline]
    fn release(&mut self, media: &Media<'_>, ext: u64, payload: &[u8], sinks: &mut Sinks<'_>) {
        self.release_as(media, ext, payload, false, true, sinks);
    }

    #[inline]
    fn release_as(
        &mut self,
        media: &Media<'_>,
        ext: u64,
        payload: &[u8],
        late: bool,
        publish: bool,
        sinks: &mut Sinks<'_>,
    ) {
        let mut look = Look::default();
        look.note(self.codec, payload, media.head.payload_len as usize);
        let placed = self.units.handle(RtpTimestamp(media.head.timestamp), media.head.marker, &look);
        if let Some(codec) = self.codec {
            for range in &look.parameter_sets {
                if let Some(nal) = payload.get(range.start as usize..range.end as usize) {
                    sinks.streams.learn_parameter_set(self.stream, codec, nal);
                }
            }
        }
        self.write(media, ext, placed, late, publish, sinks);
    }

    #[inline]
    fn write(
        &mut self,
        media: &Media<'_>,
        ext: u64,
        placed: Placed,
        late: bool,
        publish: bool,
        sinks: &mut Sinks<'_>,
    ) {
        if let Some(shard) = media.shard() {
            self.place = (media.head.tap, shard);
        }
        sinks.stats.media_packets += 1;
        let Some(entry) = self.segment.push(media, ext, placed, late, &mut sinks.out.batch) else { return };
        if publish && sinks.out.live {
            self.publish(media.head.payload_type, entry, sinks.out);
        }
    }

    fn publish(&self, payload_type: u8, entry: MediaView<'_>, out: &mut Output) {
        let Self { stream, ssrc, .. } = *self;
        out.media.push(LiveMedia {
            stream,
            segment: self.segment.id,
            ssrc,
            payload_type,
            entry: entry.to_entry(),
        });
    }

    /// Live viewers get what waits behind a hole at once, and put it in order themselves.
    fn publish_early(&self, media: &Media<'_>, ext: u64, payload: &[u8], out: &mut Output) {
        let look = look(self.codec, payload, media.head.payload_len as usize);
        let placed = Placed {
            au_start: false,
            clean: look.clean || look.opens,
            parameter_sets: !look.parameter_sets.is_empty(),
        };
        self.publish(media.head.payload_type, media.entry(ext, placed), out);
    }

    fn release_held(&mut self, held: &Held, sinks: &mut Sinks<'_>) {
        let Held { ext, late, published, ref payload, .. } = *held;
        self.release_as(&held.media(), ext, payload, late, !published, sinks);
    }
}
