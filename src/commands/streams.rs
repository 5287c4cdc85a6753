//! `tapdeck streams`: the streams that were found.

use crate::cli::{JsonArg, StoreArg};
use crate::config::Config;
use crate::console::Console;
use crate::failure::Outcome;
use crate::listing::{self, Fit, Rows};
use crate::size::{ByteSize, count};
use crate::times;
use clap::Args;
use reconstruct::codec::Kind;
use reconstruct::footage::{Footage, StreamInfo};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// List the streams that were found
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck streams --store DIR
  tapdeck streams --store DIR --json | jq -r '.[].name'

A stream is one camera's track through all its sessions. Its name is also its RTSP path: rtsp://HOST:8554/NAME")]
pub struct Streams {
    /// Where.
    #[command(flatten)]
    pub store: StoreArg,
    /// How it is printed.
    #[command(flatten)]
    pub json: JsonArg,
}

impl Streams {
    /// Lists them by name.
    pub fn run(self, config: &Config, console: &Console) -> Outcome {
        let footage = Footage::open(&self.store.open(config)?)?;
        let mut streams = footage.streams()?;
        streams.sort_by(|a, b| a.name.cmp(&b.name));
        if self.json.json {
            return listing::print_json(&streams.iter().map(document).collect::<Vec<_>>());
        }
        if streams.is_empty() {
            console.say("no streams were found in this store; `tapdeck packets` lists what it holds");
            return Ok(());
        }
        let headings = [
            "NAME", "CODEC", "CAMERA", "BY", "FIRST", "LASTED", "PACKETS", "BYTES", "LOST", "PICTURES", "KEY",
        ];
        let rows = streams.iter().map(row).collect();
        // Of what is left out, --json has it all; the camera is in most names.
        let rows = Rows { headings: &headings, right: &[6, 7, 8, 9, 10], rows };
        listing::print_table(rows, Fit { drop: &[2, 10, 9, 7, 3, 6, 5, 8, 4], wrap: None })
    }
}

fn row(stream: &StreamInfo) -> Vec<String> {
    let codec = stream.codec.map_or("?", |codec| codec.name());
    // Sound has neither pictures nor key pictures.
    let pictures = |n: u64| if stream.kind == Kind::Audio { "-".to_owned() } else { count(n) };
    vec![
        stream.name.clone(),
        if stream.encrypted { format!("{codec} (encrypted)") } else { codec.to_owned() },
        stream.camera.clone(),
        stream.transports.iter().map(|t| t.name()).collect::<Vec<_>>().join(" "),
        stream.first.map_or_else(|| "-".to_owned(), times::short),
        stream
            .first
            .zip(stream.last)
            .map_or_else(|| "-".to_owned(), |(a, b)| times::lasting(b.nanos_since(a))),
        count(stream.packets),
        ByteSize(stream.bytes).to_string(),
        count(stream.lost),
        pictures(stream.access_units),
        pictures(stream.clean_points),
    ]
}

/// The object that programs read; its keys only ever grow.
pub fn document(stream: &StreamInfo) -> Value {
    json!({
        "id": stream.id,
        "name": stream.name,
        "own_name": stream.own_name,
        "camera": stream.camera,
        "camera_address": stream.camera_address,
        "presentation": stream.presentation,
        "uri": stream.uri,
        "kind": stream.kind,
        "codec": stream.codec,
        "transports": stream.transports.iter().map(|t| t.name()).collect::<Vec<_>>(),
        "encrypted": stream.encrypted,
        "sources": endpoints(&stream.sources),
        "destinations": endpoints(&stream.destinations),
        "vlans": stream.vlans,
        "ssrcs": stream.ssrcs,
        "payload_type": stream.payload_type,
        "clock_rate": stream.clock_rate,
        "channels": stream.channels,
        "first": stream.first.map(times::rfc3339),
        "last": stream.last.map(times::rfc3339),
        "packets": stream.packets,
        "bytes": stream.bytes,
        "lost": stream.lost,
        "duplicates": stream.duplicates,
        "reordered": stream.reordered,
        "access_units": stream.access_units,
        "clean_points": stream.clean_points,
        "sessions": stream.sessions,
        "sdp": stream.sdp,
    })
}

fn endpoints(addresses: &[SocketAddr]) -> Vec<Value> {
    addresses.iter().map(|a| json!({ "address": a.ip(), "port": a.port() })).collect()
}
