//! Streams and segments: rows of the index, with the counters of what is retained.

use super::{Footage, FootageError, SegmentInfo, Selector, StreamInfo};
use crate::index::{SegmentId, StreamId};
use crate::model::{SegmentPart, SegmentRow, StreamRow};
use capture::CaptureTime;
use std::collections::{BTreeMap, BTreeSet};

impl Footage {
    /// All streams that something is retained of, by number.
    pub fn streams(&self) -> Result<Vec<StreamInfo>, FootageError> {
        self.refresh()?;
        let mut parts: BTreeMap<StreamId, Vec<SegmentPart>> = BTreeMap::new();
        self.index.all_parts(|part| parts.entry(part.stream).or_default().push(part))?;
        let names = self.store.names();
        let mut streams = Vec::new();
        for row in self.index.streams()? {
            if let Some(parts) = parts.remove(&row.id) {
                streams.push(self.info(row, &parts, &names)?);
            }
        }
        Ok(streams)
    }

    /// One stream; `None` if there is none, or nothing is retained of it.
    pub fn stream(&self, id: StreamId) -> Result<Option<StreamInfo>, FootageError> {
        self.refresh()?;
        let Some(row) = self.index.stream(id)? else { return Ok(None) };
        let parts = self.index.parts(id)?;
        if parts.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.info(row, &parts, &self.store.names())?))
    }

    /// The streams that are meant, by number. A name that is a stream's own or given name or its number means that stream
    /// alone, any other the tracks of a camera, or else of a presentation.
    pub fn select(&self, selector: &Selector) -> Result<Vec<StreamInfo>, FootageError> {
        let mut streams = self.streams()?;
        streams.retain(|s| {
            selector.id.is_none_or(|id| s.id == id)
                && selector.codec.is_none_or(|codec| s.codec == Some(codec))
                && selector.source.is_none_or(|ip| {
                    s.camera_address == Some(ip) || s.sources.iter().any(|source| source.ip() == ip)
                })
        });
        let Some(name) = selector.name.as_deref().map(|n| n.trim_matches('/')) else { return Ok(streams) };
        let cameras = self.camera_names();
        let ways: [&dyn Fn(&StreamInfo) -> bool; 5] = [
            &|s| s.name == name,
            &|s| s.own_name == name,
            // Before presentations: what was found without a dialogue is of one that is called as its camera.
            &|s| s.camera == name || cameras.get(&s.camera).is_some_and(|given| given == name),
            &|s| s.presentation == name || cameras.get(&s.presentation).is_some_and(|given| given == name),
            &|s| name.parse() == Ok(s.id.0),
        ];
        for way in ways {
            if streams.iter().any(way) {
                streams.retain(way);
                return Ok(streams);
            }
        }
        Ok(Vec::new())
    }

    /// Names given to cameras and presentations are kept beside those given to streams.
    fn camera_names(&self) -> BTreeMap<String, String> {
        self.store.names()
    }

    fn info(
        &self,
        row: StreamRow,
        parts: &[SegmentPart],
        names: &BTreeMap<String, String>,
    ) -> Result<StreamInfo, FootageError> {
        let segments: BTreeSet<SegmentId> = parts.iter().map(|p| p.segment).collect();
        let sessions: BTreeSet<_> = parts.iter().map(|p| p.session).collect();
        let sum = |of: fn(&SegmentPart) -> u64| parts.iter().map(of).fold(0, u64::saturating_add);
        let mut info = StreamInfo {
            id: row.id,
            name: names.get(&row.name).cloned().unwrap_or_else(|| row.name.clone()),
            own_name: row.name,
            camera: row.camera,
            camera_address: Some(row.key.camera()),
            camera_mac: row.camera_mac,
            presentation: row.presentation,
            uri: row.uri,
            kind: row.kind,
            codec: row.codec,
            transports: row.transports,
            encrypted: row.encrypted,
            sources: Vec::new(),
            destinations: Vec::new(),
            vlans: Vec::new(),
            ssrcs: Vec::new(),
            payload_type: row.payload_type,
            clock_rate: row.clock_rate,
            channels: row.channels,
            fmtp: row.fmtp,
            sdp_media: row.sdp_media,
            parameter_sets: row.parameter_sets,
            first: parts.iter().map(|p| p.first).min(),
            last: parts.iter().map(|p| p.last).max(),
            packets: sum(|p| p.packets),
            bytes: sum(|p| p.bytes),
            lost: sum(|p| p.lost),
            duplicates: sum(|p| p.duplicates),
            reordered: sum(|p| p.reordered),
            access_units: sum(|p| p.access_units),
            clean_points: sum(|p| p.clean_points),
            sessions: sessions.len() as u64,
            sdp: row.sdp,
            aliases: row.aliases,
        };
        for id in segments {
            if let Some(segment) = self.index.segment(id)? {
                add(&mut info.sources, segment.src);
                add(&mut info.destinations, segment.dst);
                add(&mut info.ssrcs, segment.ssrc);
                for vlan in segment.vlans {
                    add(&mut info.vlans, vlan);
                }
            }
        }
        Ok(info)
    }

    /// A stream's segments between two times, by time.
    pub fn segments(
        &self,
        stream: StreamId,
        from: CaptureTime,
        to: CaptureTime,
    ) -> Result<Vec<SegmentInfo>, FootageError> {
        self.refresh()?;
        let mut found: BTreeMap<SegmentId, SegmentInfo> = BTreeMap::new();
        for part in self.index.parts(stream)? {
            match found.get_mut(&part.segment) {
                Some(info) => extend(info, &part),
                None => {
                    if let Some(row) = self.index.segment(part.segment)? {
                        found.insert(part.segment, begin(row, &part));
                    }
                }
            }
        }
        let mut segments: Vec<_> = found.into_values().filter(|s| s.last >= from && s.first <= to).collect();
        segments.sort_by_key(|s| (s.first, s.row.id));
        Ok(segments)
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}

fn begin(row: SegmentRow, part: &SegmentPart) -> SegmentInfo {
    SegmentInfo {
        row,
        first: part.first,
        last: part.last,
        first_seq: part.first_seq,
        last_seq: part.last_seq,
        packets: part.packets,
        bytes: part.bytes,
        lost: part.lost,
        duplicates: part.duplicates,
        reordered: part.reordered,
        access_units: part.access_units,
        clean_points: part.clean_points,
    }
}

fn extend(info: &mut SegmentInfo, part: &SegmentPart) {
    info.first = info.first.min(part.first);
    info.last = info.last.max(part.last);
    info.first_seq = info.first_seq.min(part.first_seq);
    info.last_seq = info.last_seq.max(part.last_seq);
    for (sum, add) in [
        (&mut info.packets, part.packets),
        (&mut info.bytes, part.bytes),
        (&mut info.lost, part.lost),
        (&mut info.duplicates, part.duplicates),
        (&mut info.reordered, part.reordered),
        (&mut info.access_units, part.access_units),
        (&mut info.clean_points, part.clean_points),
    ] {
        *sum = sum.saturating_add(add);
    }
}
