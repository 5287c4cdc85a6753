//! `tapdeck packets`: the packets of a store, one a line.

use crate::cli::{JsonArg, RangeArgs, StoreArg};
use crate::config::Config;
use crate::failure::{Failure, Outcome};
use crate::finding::{check_range, one_stream};
use crate::listing::JsonArray;
use crate::packet_filter::PacketFilter;
use crate::record_walk::RecordWalk;
use crate::times;
use capture::{CaptureTime, LinkType, Record, Shard, Store, TapInfo};
use clap::Args;
use reconstruct::footage::{self, Footage, Found, Records};
use reconstruct::index::HeaderFields;
use reconstruct::wire::{self, Transport};
use serde::Serialize;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::net::IpAddr;

/// List packets by time and filter
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck packets --store DIR --from -1m
  tapdeck packets --store DIR --stream entrance-video --from -1m
  tapdeck packets --store DIR -f 'host 10.0.0.7 and tcp port 554' --limit 20
  tapdeck packets --store DIR --from 2026-11-21T14:30:00Z --limit 9 --json

A packet's place is its shard and the offset of its record there: shards/SHARD.pcap is an ordinary capture file.")]
pub struct Packets {
    /// Which packets.
    #[command(flatten)]
    pub range: RangeArgs,
    /// Only packets of the flows that carry this stream (over TCP: all that the camera sends in that connection) (id or name)
    #[arg(long, value_name = "STREAM")]
    pub stream: Option<String>,
    /// Only packets that match (pcap-filter syntax)
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Option<String>,
    /// Stop after this many
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<u64>,
    /// Where.
    #[command(flatten)]
    pub store: StoreArg,
    /// How it is printed.
    #[command(flatten)]
    pub json: JsonArg,
}

/// One packet as it is listed.
#[derive(Serialize)]
struct Row<'a> {
    time: String,
    shard: u64,
    offset: u64,
    tap: &'a str,
    length: u32,
    captured: usize,
    vlans: Vec<u16>,
    protocol: Option<String>,
    source: Option<Endpoint>,
    destination: Option<Endpoint>,
    payload: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtp: Option<Rtp>,
}

/// What the first level of the index has of an RTP header.
#[derive(Serialize)]
struct Rtp {
    sequence: u16,
    timestamp: u32,
    marker: bool,
    payload_type: u8,
}

#[derive(Clone, Copy, Serialize)]
struct Endpoint {
    address: IpAddr,
    port: Option<u16>,
}

enum Listing {
    Json(JsonArray),
    Lines(BufWriter<StdoutLock<'static>>),
}

impl Packets {
    /// Lists them in the order of capture.
    pub fn run(self, config: &Config) -> Outcome {
        let range = times::parse_range(self.range.from.as_deref(), self.range.to.as_deref(), times::now())?;
        let mut filter = self.filter.as_deref().map(PacketFilter::new).transpose()?;
        let store = self.store.open(config)?;
        let mut listing = match self.json.json {
            true => Listing::Json(JsonArray::begin()?),
            false => Listing::Lines(BufWriter::new(io::stdout().lock())),
        };
        let taps = store.taps();
        let mut left = self.limit.unwrap_or(u64::MAX);
        if let Some(stream) = &self.stream {
            list_stream(&store, stream, range, filter.as_mut(), left, &mut listing)?;
            left = 0;
        }
        let mut walk = RecordWalk::new(&store, range.0, range.1);
        while left > 0
            && let Some((record, shard)) = walk.next_packet()?
        {
            if matches(filter.as_mut(), &shard, &record)? {
                listing.push(&Row::new(&shard, &taps, &record))?;
                left -= 1;
            }
        }
        match listing {
            Listing::Json(array) => array.end(),
            Listing::Lines(mut out) => Ok(out.flush()?),
        }
    }
}

impl From<times::TimeError> for Failure {
    fn from(error: times::TimeError) -> Self {
        Self::usage(error)
    }
}

fn matches(filter: Option<&mut PacketFilter>, shard: &Shard, record: &Record) -> Result<bool, Failure> {
    Ok(match filter {
        Some(filter) => filter.matches(shard.link(), &record.data)?,
        None => true,
    })
}

/// Through the first level of the index: only the stream's own packets are read.
fn list_stream(
    store: &Store,
    wanted: &str,
    (from, to): (CaptureTime, CaptureTime),
    mut filter: Option<&mut PacketFilter>,
    mut left: u64,
    listing: &mut Listing,
) -> Outcome {
    let footage = Footage::open(store)?;
    let stream = one_stream(&footage, wanted)?;
    check_range(&stream, (from, to))?;
    let taps = store.taps();
    let query = footage::PacketFilter {
        stream: Some(stream.id),
        from: Some(from),
        to: Some(to),
        ..Default::default()
    };
    let (mut damaged, mut records) = (0u64, Records::default());
    for found in footage.packets(&query)? {
        if left == 0 {
            break;
        }
        let found = found?;
        let (record, shard) = match records.read(store, found.shard, found.packet.offset)? {
            Found::Record(record, shard) => (record, shard),
            Found::Damaged => {
                damaged += 1;
                continue;
            }
            // Deleted by retention meanwhile.
            Found::Gone => continue,
        };
        let in_time = record.time >= from && record.time <= to;
        if in_time && matches(filter.as_deref_mut(), &shard, &record)? {
            let mut row = Row::new(&shard, &taps, &record);
            if let HeaderFields::Rtp { seq, timestamp, marker, payload_type } = found.packet.header {
                row.rtp = Some(Rtp { sequence: seq, timestamp, marker, payload_type });
            }
            listing.push(&row)?;
            left -= 1;
        }
    }
    if damaged > 0 {
        tracing::warn!("{damaged} packets can't be read; `tapdeck verify` shows what is damaged");
    }
    Ok(())
}

impl Listing {
    fn push(&mut self, row: &Row<'_>) -> Outcome {
        match self {
            Self::Json(array) => array.push(row),
            Self::Lines(out) => Ok(writeln!(out, "{}", row.line())?),
        }
    }
}

impl<'a> Row<'a> {
    fn new(shard: &Shard, taps: &'a [TapInfo], record: &Record) -> Self {
        let mut row = Self {
            time: times::rfc3339(record.time),
            shard: shard.id().0,
            offset: record.offset,
            tap: taps.iter().find(|tap| tap.id == shard.tap()).map_or("", |tap| tap.name.as_str()),
            length: record.original_len,
            captured: record.data.len(),
            vlans: Vec::new(),
            protocol: None,
            source: None,
            destination: None,
            payload: None,
            rtp: None,
        };
        row.dissect(shard.link(), record);
        row
    }

    /// What can't be taken apart is listed by its length alone.
    fn dissect(&mut self, link: LinkType, record: &Record) {
        let Ok(seen) = wire::dissect_record(link, &record.data, record.original_len) else { return };
        let (protocol, ports, payload) = match seen.transport {
            Transport::Udp { src, dst, payload_len_on_wire, .. } => {
                ("udp".to_owned(), Some((src, dst)), Some(payload_len_on_wire))
            }
            Transport::Tcp { src, dst, payload_len_on_wire, .. } => {
                ("tcp".to_owned(), Some((src, dst)), Some(payload_len_on_wire))
            }
            Transport::Fragment(_) => ("fragment".to_owned(), None, None),
            Transport::Icmp { .. } => ("icmp".to_owned(), None, None),
            Transport::Other { proto, .. } => (format!("ip-{proto}"), None, None),
        };
        self.vlans = seen.vlans.ids().to_vec();
        self.protocol = Some(protocol);
        self.source = Some(Endpoint { address: seen.ip.src, port: ports.map(|(src, _)| src) });
        self.destination = Some(Endpoint { address: seen.ip.dst, port: ports.map(|(_, dst)| dst) });
        self.payload = payload;
    }

    fn line(&self) -> String {
        let end = |end: Option<Endpoint>| match end {
            Some(Endpoint { address, port: Some(port) }) => {
                std::net::SocketAddr::new(address, port).to_string()
            }
            Some(Endpoint { address, port: None }) => address.to_string(),
            None => "-".to_owned(),
        };
        let vlans: String = self.vlans.iter().map(|id| format!(" vlan {id}")).collect();
        let rtp = self.rtp.as_ref().map_or_else(String::new, |rtp| {
            let marker = if rtp.marker { " M" } else { "" };
            format!(" RTP {} seq {} time {}{marker}", rtp.payload_type, rtp.sequence, rtp.timestamp)
        });
        let cut = if (self.captured as u64) < u64::from(self.length) {
            format!(" cut to {}", self.captured)
        } else {
            String::new()
        };
        format!(
            "{} {:>6}:{:<10} {:<8} {:>21} > {:<21} {:>5} bytes{cut}{vlans}{rtp}",
            self.time,
            self.shard,
            self.offset,
            self.protocol.as_deref().unwrap_or("other"),
            end(self.source),
            end(self.destination),
            self.length,
        )
    }
}
