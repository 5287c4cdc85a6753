//! The footage of a store as a [`Source`]: the only place that knows both.

use crate::source::{
    LiveItem, LivePackets, MediaKind, Packet, PacketReader, Selection, Source, SourceError, StartAt, TrackId,
    TrackInfo,
};
use capture::{CaptureTime, StoreError};
use reconstruct::codec::{Codec, Kind};
use reconstruct::footage::{
    self, Cursor, Footage, FootageError, LiveSubscription, MediaPacket, Selector, Start, StreamInfo,
};
use reconstruct::index::StreamId;
use std::num::NonZeroU32;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long the indexer may take to answer a subscription: it does so between two batches.
const HANDOFF_TIMEOUT: Duration = Duration::from_secs(5);

fn failed(error: FootageError) -> SourceError {
    match error {
        FootageError::Store(StoreError::Gone { .. }) => SourceError::Gone,
        other => SourceError::Store(Box::new(other)),
    }
}

impl Source for Footage {
    fn find(&self, selection: &Selection) -> Result<Vec<TrackInfo>, SourceError> {
        self.refresh().map_err(failed)?;
        let Some(selector) = selector(selection) else { return Ok(Vec::new()) };
        let streams = self.select(&selector).map_err(failed)?;
        // Pictures first: some players take the first track for what is to be shown.
        let mut tracks: Vec<TrackInfo> = streams.into_iter().filter_map(track).collect();
        tracks.sort_by_key(|t| (t.media as u8, t.id));
        Ok(tracks)
    }

    fn reader(
        &self,
        track: TrackId,
        from: CaptureTime,
        to: CaptureTime,
        start: StartAt,
    ) -> Result<Box<dyn PacketReader>, SourceError> {
        let start = match start {
            StartAt::CleanPointBefore => Start::CleanPointBefore,
            StartAt::Exact => Start::Exact,
            StartAt::LiveEdge => Start::LiveEdge,
        };
        let cursor = self.cursor(StreamId(track.0), from, to, start).map_err(failed)?;
        Ok(Box::new(StoredPackets(cursor)))
    }

    fn records(&self) -> bool {
        self.live().is_some()
    }

    fn subscribe(
        &self,
        track: TrackId,
        capacity: usize,
    ) -> Result<Option<Box<dyn LivePackets>>, SourceError> {
        let Some(hub) = self.live() else { return Ok(None) };
        let subscription = hub.subscribe(StreamId(track.0), capacity);
        let Some(handoff) = subscription.wait_handoff(HANDOFF_TIMEOUT) else { return Ok(None) };
        Ok(Some(Box::new(LiveTrack { subscription, handoff })))
    }
}

/// `None` when a condition can't hold for any stream.
fn selector(selection: &Selection) -> Option<Selector> {
    let id = match &selection.id {
        Some(id) => Some(StreamId(id.parse().ok()?)),
        None => None,
    };
    let codec = match &selection.codec {
        Some(name) => Some(Codec::from_name(name)?),
        None => None,
    };
    Some(Selector { name: selection.name.clone(), id, source: selection.source, codec })
}

/// `None` for a stream of which no packet is retained.
fn track(stream: StreamInfo) -> Option<TrackInfo> {
    let media = match stream.kind {
        Kind::Video => MediaKind::Video,
        Kind::Audio => MediaKind::Audio,
        Kind::Metadata | Kind::Application | Kind::Unknown => MediaKind::Application,
    };
    Some(TrackInfo {
        id: TrackId(stream.id.0),
        name: stream.name,
        camera: stream.camera,
        media,
        encoding: stream.codec.and_then(encoding_name).map(str::to_owned),
        payload_type: stream.payload_type,
        clock_rate: stream.clock_rate.or_else(|| default_rate(stream.codec?)),
        channels: stream.channels,
        fmtp: stream.fmtp,
        sdp_media: stream.sdp_media,
        parameter_sets: stream.parameter_sets,
        first: stream.first?,
        last: stream.last?,
        encrypted: stream.encrypted,
    })
}

/// The name in `a=rtpmap`, as IANA's registry of RTP payload formats has it.
fn encoding_name(codec: Codec) -> Option<&'static str> {
    Some(match codec {
        Codec::H264 => "H264",
        Codec::H265 => "H265",
        Codec::Jpeg => "JPEG",
        Codec::Mpeg4 => "MP4V-ES",
        Codec::Mp2t => "MP2T",
        Codec::Av1 => "AV1",
        Codec::Aac => "MPEG4-GENERIC",
        Codec::Pcmu => "PCMU",
        Codec::Pcma => "PCMA",
        Codec::G722 => "G722",
        Codec::G726 => "G726-32",
        Codec::Opus => "opus",
        Codec::OnvifMetadata => "vnd.onvif.metadata",
        // The name of any other stands in the description that it came from.
        _ => return None,
    })
}

/// The clock rate of a codec whose description was not seen; AAC's can't be told.
fn default_rate(codec: Codec) -> Option<NonZeroU32> {
    NonZeroU32::new(match codec {
        Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::G726 => 8000,
        Codec::Opus => 48_000,
        Codec::Aac | Codec::Other => return None,
        _ => 90_000,
    })
}

impl From<MediaPacket> for Packet {
    fn from(p: MediaPacket) -> Self {
        Self {
            time: p.time,
            segment: p.segment.0,
            seq: p.seq,
            timestamp: p.timestamp,
            marker: p.marker,
            payload_type: p.payload_type,
            clean: p.clean,
            pieces: p.pieces.into_iter().map(Into::into).collect(),
        }
    }
}

struct StoredPackets(Cursor);

impl PacketReader for StoredPackets {
    fn next(&mut self) -> Result<Option<Packet>, SourceError> {
        Ok(self.0.next().map_err(failed)?.map(Packet::from))
    }
}

struct LiveTrack {
    subscription: LiveSubscription,
    handoff: CaptureTime,
}

impl LivePackets for LiveTrack {
    fn handoff(&self) -> CaptureTime {
        self.handoff
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<LiveItem>> {
        self.subscription.poll_next(cx).map(|item| {
            item.map(|item| match item {
                footage::LiveItem::Packet(p) => LiveItem::Packet(p.into()),
                footage::LiveItem::Lagged(n) => LiveItem::Lagged(n),
            })
        })
    }
}
