//! Which stream a track's packets belong to, and what is known about each stream.
//!
//! A stream keeps its identity through reconnects: the key is who sends and what it was asked for, not ports or SSRCs. One that
//! was found by its packets alone gets the described key as an alias when a dialogue describes exactly one such stream of
//! that camera; its name stays. A session that goes on while the recorder is started anew, or into the next of several files, is known by its
//! addresses and its SSRC: without the dialogue it would have another name from there on.

use super::media::FlowFacts;
use crate::codec::{AccessUnits, Codec, Kind};
use crate::index::IndexBatch;
use crate::model::{
    NextIds, StreamId, StreamKey, StreamRow, Transport, camera_name, presentation_name, sanitise, unique,
};
use crate::sdp;
use crate::sequence::SequenceEnd;
use capture::{CaptureTime, SourceId};
use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

/// Most parameter sets kept of a stream, and the longest.
const PARAMETER_SETS_MAX: usize = 8;
const PARAMETER_SET_LEN_MAX: usize = 1024;

/// RFC 6184 section 8.1, RFC 7798 section 7.1 and the others for video name no other clock rate.
pub const VIDEO_CLOCK_RATE: u32 = 90_000;

/// What a track says about itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    pub kind: Kind,
    pub codec: Option<Codec>,
    pub clock_rate: Option<NonZeroU32>,
    pub channels: Option<u8>,
    pub fmtp: Option<String>,
    pub encrypted: bool,
    pub sdp_media: Option<String>,
    pub parameter_sets: Vec<Vec<u8>>,
    /// The URI that was asked for, as it was written.
    pub uri: Option<String>,
    /// Path of the presentation, for the name.
    pub path: String,
    /// A description was seen.
    pub described: bool,
    /// Payload types in the description with their codecs.
    pub formats: Vec<(u8, Option<Codec>, Option<NonZeroU32>)>,
}

impl Facts {
    /// From a media of a description.
    pub fn of(media: &sdp::Media) -> Self {
        let format = media.primary();
        Self {
            kind: media.kind,
            codec: format.and_then(|f| f.codec),
            clock_rate: format.and_then(|f| f.clock_rate),
            channels: format.and_then(|f| f.channels),
            fmtp: format.and_then(|f| f.fmtp.clone()),
            encrypted: media.encrypted,
            sdp_media: Some(media.raw.clone()),
            parameter_sets: format.map(|f| f.parameter_sets()).unwrap_or_default(),
            uri: None,
            path: String::new(),
            described: true,
            formats: media.formats.iter().map(|f| (f.payload_type, f.codec, f.clock_rate)).collect(),
        }
    }

    /// What is known of a payload type: described, or fixed by RFC 3551.
    pub fn format(&self, payload_type: u8) -> (Option<Codec>, Option<NonZeroU32>) {
        if let Some(&(_, codec, rate)) = self.formats.iter().find(|f| f.0 == payload_type) {
            return (codec, rate);
        }
        match Codec::from_static_payload_type(payload_type) {
            Some((codec, rate)) => (Some(codec), NonZeroU32::new(rate)),
            None => (None, None),
        }
    }
}

/// Senders that are remembered of a stream: its sessions side by side.
const SENDERS_MAX: usize = 8;

/// Who sent a segment to whom: what stays the same while a session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub channel: Option<u8>,
    pub ssrc: u32,
    pub payload_type: u8,
}

/// How far a segment had come when its recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEnd {
    /// The recording.
    pub source: SourceId,
    /// Its sequence.
    pub sequence: SequenceEnd,
    /// The access unit that it was in.
    pub units: AccessUnits,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    row: StreamRow,
    dirty: bool,
    /// Of its last segments, and how far those had come that are closed.
    senders: VecDeque<(Sender, Option<SegmentEnd>)>,
}

/// All streams.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Streams {
    known: BTreeMap<StreamId, Known>,
    by_key: HashMap<StreamKey, StreamId>,
    by_camera: HashMap<IpAddr, Vec<StreamId>>,
    names: HashSet<String>,
}

impl Streams {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// A stream's row.
    pub fn get(&self, id: StreamId) -> Option<&StreamRow> {
        self.known.get(&id).map(|k| &k.row)
    }

    /// What each is called, in the order of their numbers.
    pub fn names(&self) -> impl Iterator<Item = (StreamId, &str)> {
        self.known.iter().map(|(id, known)| (*id, known.row.name.as_str()))
    }

    /// Whether [`resolve`](Self::resolve) would make a new stream.
    pub fn is_new(&self, key: &StreamKey, facts: &Facts) -> bool {
        self.find(key, facts).is_none()
    }

    /// The stream of a key, or a new one. The second says whether it is new.
    pub fn resolve(
        &mut self,
        key: StreamKey,
        facts: &Facts,
        payload_type: u8,
        transport: Transport,
        (mac, now): (Option<[u8; 6]>, CaptureTime),
        ids: &mut NextIds,
    ) -> (StreamId, bool) {
        if let Some(id) = self.find(&key, facts) {
            self.by_key.insert(key.clone(), id);
            self.refresh(id, key, facts, payload_type, transport);
            return (id, false);
        }
        let id = ids.take_stream();
        let camera = camera_name(key.camera());
        let presentation = presentation_name(&camera, &facts.path);
        let part = match (facts.kind, facts.codec) {
            (Kind::Unknown, Some(codec)) => codec.name(),
            // Set up without a description that was seen: what it was set up by tells it from its session's others.
            (Kind::Unknown, None) => match &key {
                StreamKey::Described { uri, .. } => last_of_path(uri).unwrap_or(Kind::Unknown.name()),
                StreamKey::Inferred { .. } => Kind::Unknown.name(),
            },
            (kind, _) => kind.name(),
        };
        let name = unique(format!("{presentation}-{}", sanitise(part)), |n| self.names.contains(n));
        self.names.insert(name.clone());
        let row = StreamRow {
            id,
            key: key.clone(),
            aliases: Vec::new(),
            name,
            camera,
            presentation,
            camera_mac: mac,
            kind: facts.kind,
            codec: facts.codec,
            encrypted: facts.encrypted,
            transports: vec![transport],
            payload_type,
            clock_rate: facts.clock_rate,
            channels: facts.channels,
            fmtp: facts.fmtp.clone(),
            sdp_media: facts.sdp_media.clone(),
            uri: facts.uri.clone(),
            parameter_sets: facts.parameter_sets.clone(),
            sdp: facts.described,
            discovered: now,
        };
        self.by_camera.entry(key.camera()).or_default().push(id);
        self.by_key.insert(key, id);
        self.known.insert(id, Known { row, dirty: true, senders: VecDeque::new() });
        (id, true)
    }

    /// The stream that `sender` was heard of before, whose session goes on without its dialogue, and how far it had come.
    pub fn going_on(&self, sender: &Sender, facts: &Facts) -> Option<(StreamId, Option<SegmentEnd>)> {
        let of_camera = self.by_camera.get(&sender.src.ip()).into_iter().flatten();
        let mut known = of_camera.filter_map(|id| self.known.get(id)).filter(|k| compatible(&k.row, facts));
        known.find_map(|k| {
            let (_, end) = k.senders.iter().find(|(known, _)| known == sender)?;
            Some((k.row.id, *end))
        })
    }

    /// A segment of the stream begins, or is closed. Of several ends the latest is kept: files need not come in the order of their time.
    pub fn note_sender(&mut self, id: StreamId, sender: Sender, end: Option<SegmentEnd>) {
        let Some(Known { senders, .. }) = self.known.get_mut(&id) else { return };
        let before = senders.iter().find(|(known, _)| *known == sender).and_then(|(_, end)| *end);
        let end = before.into_iter().chain(end).max_by_key(|end| end.sequence.time());
        senders.retain(|(known, _)| *known != sender);
        if senders.len() == SENDERS_MAX {
            senders.pop_front();
        }
        senders.push_back((sender, end));
    }

    fn find(&self, key: &StreamKey, facts: &Facts) -> Option<StreamId> {
        let fits = |id: &StreamId| self.get(*id).is_some_and(|row| same_format(row, facts));
        if let Some(&id) = self.by_key.get(key).filter(|id| fits(id)) {
            return Some(id);
        }
        let of_camera =
            || self.by_camera.get(&key.camera()).into_iter().flatten().filter_map(|id| self.get(*id));
        // A camera that was set to another codec has another stream: one description can't tell of both. It may be set back.
        if self.by_key.contains_key(key) {
            let before = of_camera().find(|row| row.keys().any(|k| k == key) && same_format(row, facts));
            return before.map(|row| row.id);
        }
        match key {
            StreamKey::Described { uri, kind, .. } => {
                // The same track, set up once with and once without its description.
                let same = of_camera().filter(|row| same_format(row, facts)).find(|row| {
                    row.keys().any(|k| {
                        matches!(k, StreamKey::Described { uri: u, kind: k, .. }
                        if u == uri && (*k == Kind::Unknown || *kind == Kind::Unknown))
                    })
                });
                if let Some(row) = same {
                    return Some(row.id);
                }
                // Exactly one stream that was found by its packets, and may be this one.
                let by_packets = |row: &&StreamRow| matches!(row.key, StreamKey::Inferred { .. });
                let mut inferred = of_camera()
                    .filter(by_packets)
                    .filter(|row| !row.sdp && row.aliases.is_empty() && compatible(row, facts));
                inferred.next().filter(|_| inferred.next().is_none()).map(|row| row.id)
            }
            StreamKey::Inferred { port, channel, .. } => {
                // What is inferred of the codec grows; the place it comes from stays.
                let mut same = of_camera().filter(|row| {
                    compatible(row, facts)
                        && row.keys().any(
                            |k| matches!(k, StreamKey::Inferred { port: p, channel: c, .. } if p == port && c == channel),
                        )
                });
                same.next().map(|row| row.id)
            }
        }
    }

    fn refresh(
        &mut self,
        id: StreamId,
        key: StreamKey,
        facts: &Facts,
        payload_type: u8,
        transport: Transport,
    ) {
        let Some(known) = self.known.get_mut(&id) else { return };
        let row = &mut known.row;
        let before = row.clone();
        if row.key != key && !row.aliases.contains(&key) {
            row.aliases.push(key);
        }
        if !row.transports.contains(&transport) {
            row.transports.push(transport);
        }
        row.payload_type = payload_type;
        if facts.described {
            row.sdp = true;
            row.sdp_media.clone_from(&facts.sdp_media);
            row.fmtp.clone_from(&facts.fmtp);
            row.encrypted = facts.encrypted;
            row.channels = facts.channels.or(row.channels);
            row.clock_rate = facts.clock_rate.or(row.clock_rate);
            row.codec = facts.codec.or(row.codec);
            if facts.uri.is_some() {
                row.uri.clone_from(&facts.uri);
            }
            if facts.kind != Kind::Unknown {
                row.kind = facts.kind;
            }
            if row.parameter_sets.is_empty() {
                row.parameter_sets.clone_from(&facts.parameter_sets);
            }
        }
        known.dirty |= known.row != before;
    }

    /// A codec was recognised by the payload.
    pub fn learn_codec(&mut self, id: StreamId, codec: Codec) {
        let Some(known) = self.known.get_mut(&id) else { return };
        if known.row.codec.is_none() {
            known.row.codec = Some(codec);
            if known.row.kind == Kind::Unknown {
                known.row.kind = codec.kind().unwrap_or_default();
            }
            if known.row.clock_rate.is_none() && codec.kind() == Some(Kind::Video) {
                known.row.clock_rate = NonZeroU32::new(VIDEO_CLOCK_RATE);
            }
            known.dirty = true;
        }
    }

    /// A parameter set came in the stream: replaces the one of its type.
    pub fn learn_parameter_set(&mut self, id: StreamId, codec: Codec, nal: &[u8]) {
        let Some(known) = self.known.get_mut(&id) else { return };
        let nal_type =
            |n: &[u8]| n.first().map(|b| if codec == Codec::H265 { b >> 1 & 0x3f } else { b & 0x1f });
        if nal.is_empty() || nal.len() > PARAMETER_SET_LEN_MAX {
            return;
        }
        let sets = &mut known.row.parameter_sets;
        if sets.iter().any(|s| s == nal) {
            return;
        }
        let same = sets.iter().position(|s| nal_type(s) == nal_type(nal));
        match same {
            Some(at) => sets[at] = nal.to_vec(),
            None if sets.len() < PARAMETER_SETS_MAX => sets.push(nal.to_vec()),
            None => return,
        }
        known.dirty = true;
    }

    /// All rows are to be written again.
    pub fn forget_written(&mut self) {
        self.known.values_mut().for_each(|known| known.dirty = true);
    }

    /// Writes the rows that have changed.
    pub fn put_changed(&mut self, batch: &mut IndexBatch) {
        for known in self.known.values_mut().filter(|k| k.dirty) {
            known.dirty = false;
            batch.put_stream(&known.row);
        }
    }
}

/// What stands behind the last slash of a control URI.
fn last_of_path(uri: &str) -> Option<&str> {
    let (_, last) = uri.trim_end_matches('/').rsplit_once('/')?;
    (!sanitise(last).is_empty()).then_some(last)
}

/// Whether nothing speaks against one description for both: codec and clock.
fn same_format(row: &StreamRow, facts: &Facts) -> bool {
    let codecs = row.codec == facts.codec || row.codec.is_none() || facts.codec.is_none();
    let clocks = row.clock_rate == facts.clock_rate || row.clock_rate.is_none() || facts.clock_rate.is_none();
    codecs && clocks
}

/// Whether a stream can be what these facts describe.
fn compatible(row: &StreamRow, facts: &Facts) -> bool {
    let kinds = row.kind == facts.kind || row.kind == Kind::Unknown || facts.kind == Kind::Unknown;
    kinds && same_format(row, facts)
}

/// The key of a track that nobody described.
pub fn inferred_key(flow: &FlowFacts, channel: Option<u8>, facts: &Facts) -> StreamKey {
    StreamKey::Inferred {
        camera: flow.src.ip(),
        kind: facts.kind,
        codec: facts.codec,
        port: flow.src.port(),
        channel,
    }
}
