//! Tracks and packets made up for unit tests.

use crate::source::*;
use bytes::Bytes;
use capture::CaptureTime;
use std::num::NonZeroU32;

/// A small RTP packet with payload type 96.
pub(crate) fn packet(segment: u32, seq: u64, timestamp: u32, ms: i64) -> Packet {
    let mut raw = vec![0x80, 96];
    raw.extend((seq as u16).to_be_bytes());
    raw.extend(timestamp.to_be_bytes());
    raw.extend([9; 4]);
    raw.extend([0x65, 1, 2, 3]);
    Packet {
        time: CaptureTime::from_nanos(1_700_000_000_000_000_000 + ms * 1_000_000),
        segment,
        seq,
        timestamp,
        marker: false,
        payload_type: 96,
        clean: false,
        pieces: [Bytes::from(raw).into()].into_iter().collect(),
    }
}

/// An H.264 track that was recorded between two seconds.
pub(crate) fn track(id: u32, name: &str, camera: &str, first_s: i64, last_s: i64) -> TrackInfo {
    TrackInfo {
        id: TrackId(id),
        name: name.into(),
        camera: camera.into(),
        media: MediaKind::Video,
        encoding: Some("H264".into()),
        payload_type: 96,
        clock_rate: NonZeroU32::new(90_000),
        channels: None,
        fmtp: None,
        sdp_media: None,
        parameter_sets: vec![],
        first: CaptureTime::from_secs_nanos(first_s, 0),
        last: CaptureTime::from_secs_nanos(last_s, 0),
        encrypted: false,
    }
}

/// A source that lists tracks, all of them H.264, and has no packets.
#[derive(Default)]
pub(crate) struct SyntheticSource {
    pub(crate) tracks: Vec<TrackInfo>,
    pub(crate) records: bool,
}

struct Empty;

impl PacketReader for Empty {
    fn next(&mut self) -> Result<Option<Packet>, SourceError> {
        Ok(None)
    }
}

impl Source for SyntheticSource {
    fn find(&self, s: &Selection) -> Result<Vec<TrackInfo>, SourceError> {
        let matches = |t: &&TrackInfo| {
            s.name.as_ref().is_none_or(|n| *n == t.name || *n == t.camera)
                && s.codec.as_ref().is_none_or(|c| c == "h264")
                && s.id.as_ref().is_none_or(|i| *i == t.id.0.to_string())
        };
        Ok(self.tracks.iter().filter(matches).cloned().collect())
    }

    fn reader(
        &self,
        _: TrackId,
        _: CaptureTime,
        _: CaptureTime,
        _: StartAt,
    ) -> Result<Box<dyn PacketReader>, SourceError> {
        Ok(Box::new(Empty))
    }

    fn records(&self) -> bool {
        self.records
    }

    fn subscribe(&self, _: TrackId, _: usize) -> Result<Option<Box<dyn LivePackets>>, SourceError> {
        Ok(None)
    }
}
