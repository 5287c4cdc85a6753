//! `tapdeck status`: what the running recorder does, or what lies in the store when none is running; and what interfaces did, second by
//! second.

use crate::cli::{JsonArg, RangeArgs, StoreArg};
use crate::config::Config;
use crate::control::{self, Reply, Request};
use crate::failure::{Failure, Outcome};
use crate::listing::{self, JsonArray};
use crate::size::{ByteSize, several};
use crate::statistics;
use crate::status::RecorderStatus;
use crate::times;
use capture::Store;
use clap::Args;
use serde_json::{Value, json};

/// Show the running recorder's rates, drops, lag, clients and failing sessions
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck status --store /var/lib/tapdeck
  tapdeck status --store /var/lib/tapdeck --json | jq .recorder.interfaces
  watch -n 2 tapdeck status --store /var/lib/tapdeck
  tapdeck status --store /var/lib/tapdeck --from -5m    # second by second
  tapdeck status --store DIR --from -1d --json | jq '.[].dropped_by_kernel'

Seconds are kept as long as the footage of their time, and at most 256 MiB of them. KERNEL, NIC and US are packets that were lost, by \
where; QUEUED is what waited for the disk. Without a recorder it says what the store holds. Exit status: 0 in both cases; `.recorder` is null without one.")]
pub struct Status {
    /// Which seconds.
    #[command(flatten)]
    pub range: RangeArgs,
    /// Where.
    #[command(flatten)]
    pub store: StoreArg,
    /// How it is printed.
    #[command(flatten)]
    pub json: JsonArg,
}

impl Status {
    /// Asks the recorder and prints what it says.
    pub fn run(self, config: &Config) -> Outcome {
        let store = Store::open(&self.store.path(config)?)?;
        if self.range.from.is_some() || self.range.to.is_some() {
            return self.seconds(&store);
        }
        let recorder = match control::ask(&store.control_socket(), &Request::Status)? {
            Some(Reply::Status { document }) => Some(document),
            Some(Reply::Failed { text }) => return Err(Failure::failed(text)),
            Some(_) | None => None,
        };
        match self.json.json {
            true => listing::print_json(&json!({ "recorder": recorder, "store": summary(&store) })),
            false => listing::print_lines(lines(&store, recorder)?),
        }
    }

    fn seconds(&self, store: &Store) -> Outcome {
        let range = times::parse_range(self.range.from.as_deref(), self.range.to.as_deref(), times::now())?;
        let seconds = statistics::seconds(store, range)?;
        if !self.json.json {
            if seconds.is_empty() {
                return listing::print_lines(["no second of a recording lies in that time"]);
            }
            return statistics::print(&seconds);
        }
        let mut array = JsonArray::begin()?;
        for second in &seconds {
            array.push(&statistics::document(second))?;
        }
        array.end()
    }
}

fn lines(store: &Store, recorder: Option<Value>) -> Result<Vec<String>, Failure> {
    let Some(document) = recorder else {
        let shards = store.shards();
        let bytes: u64 = shards.iter().map(|shard| shard.bytes).sum();
        let packets: u64 = shards.iter().map(|shard| shard.packets).sum();
        let holds = format!(
            "it holds {}, {} in {} of {}",
            several(packets, "packet"),
            ByteSize(bytes),
            several(shards.len() as u64, "shard"),
            several(store.sources().len() as u64, "source"),
        );
        return Ok(vec![format!("no recorder is running on {}", store.dir().display()), holds]);
    };
    let status: RecorderStatus = serde_json::from_value(document).map_err(|error| {
        Failure::failed(format_args!("the recorder's answer is not understood: {error}"))
            .next("is it of another version? --json shows it as it is")
    })?;
    let mut lines = status.block();
    lines.push(format!("pid {}, since {}", status.pid, status.started));
    Ok(lines)
}

fn summary(store: &Store) -> Value {
    let shards = store.shards();
    json!({
        "directory": store.dir().to_string_lossy(),
        "id": store.id().to_string(),
        "shards": shards.len(),
        "sealed": shards.iter().filter(|shard| shard.sealed).count(),
        "packets": shards.iter().map(|shard| shard.packets).sum::<u64>(),
        "bytes": shards.iter().map(|shard| shard.bytes).sum::<u64>(),
        "sources": store.sources().len(),
    })
}
