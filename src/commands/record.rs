//! `tapdeck record`: capture, index and serve until told to stop.

use crate::cli::StoreArg;
use crate::config::Config;
use crate::console::{Block, Console};
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::options::{self, RecordOptions};
use crate::plain_lines::PlainLines;
use crate::recorder::{Control, Plan, Recorder, Summary, check_writable};
use crate::rtsp;
use crate::size::{ByteSize, count, several};
use crate::status::RecorderStatus;
use crate::stores::nearest_directory;
use crate::writing::WrittenStore;
use capture::{LiveConfig, LiveError, MIN_SHARD_SIZE, Retention, WriterOptions};
use clap::Args;
use replay::Bound;
use std::path::Path;
use std::time::{Duration, Instant};

const ROUND: Duration = Duration::from_secs(1);

/// Record interfaces, index and serve them, until SIGINT or SIGTERM
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck record -i eth1 --store /var/lib/tapdeck --keep-bytes 2TiB
  tapdeck record -i eth1 -i eth2 --store DIR -f 'net 10.20.0.0/16'
  tapdeck record --config /etc/tapdeck/tapdeck.toml

Two interfaces are the two halves of one tap. Watch live: vlc rtsp://127.0.0.1:8554/NAME (`tapdeck streams` has the names). All other commands work on the store meanwhile. \
It needs CAP_NET_RAW and nothing else: sudo setcap cap_net_raw+ep \"$(command -v tapdeck)\". On SIGINT or SIGTERM it finishes the \
index, seals the shards and reports; another signal a second later ends it at once, and the next start recovers.")]
pub struct Record {
    /// What and how.
    #[command(flatten)]
    pub options: RecordOptions,
    /// Where.
    #[command(flatten)]
    pub store: StoreArg,
}

impl Record {
    /// Records until told to stop, or until a tap can't go on.
    pub fn run(self, config: &Config, console: &Console) -> Outcome {
        let options = self.options.or(&config.record);
        let path = self.store.path(config)?;
        let plan = plan(&options, &path)?;
        // First: where the port is taken, no empty store is left behind.
        let bound = plan.rtsp.map(Bound::to).transpose()?;
        let written = WrittenStore::create(&path, console)?;
        give_up_privileges(&written)?;
        let interrupt = Interrupt::install()?;
        let mut recorder = Recorder::start(written, bound, plan, console)?;
        let control = Control::start(recorder.orders())?;
        let mut display = Display::new(console);
        while !interrupt.wait(ROUND) && recorder.is_running() {
            let status = recorder.round(console);
            display.show(&status, console);
            control.publish(&status);
        }
        display.end();
        let was_running = recorder.is_running();
        drop(control);
        console.say("finishing");
        let summary = recorder.stop(console);
        report(&summary, console);
        match was_running && !summary.failed {
            true => Ok(()),
            false if was_running => Err(Failure::failed("the recording did not end in order")
                .next("see above; what was recorded is kept")),
            false => {
                Err(Failure::failed("recording ended by itself").next("see above; what was recorded is kept"))
            }
        }
    }
}

/// All but CAP_NET_RAW, while there is only this thread: what others were started with they would keep.
fn give_up_privileges(written: &WrittenStore) -> Outcome {
    capture::keep_only_net_raw()
        .map_err(|error| Failure::failed(format_args!("cannot give up privileges: {error}")))?;
    check_writable(written.store.dir())
}

/// Everything that can be wrong with the options is told before anything is made.
fn plan(options: &RecordOptions, store: &Path) -> Result<Plan, Failure> {
    if options.interface.is_empty() {
        return Err(Failure::usage("no interface was named")
            .next(format_args!("add -i IF (there are: {})", capture::interfaces().join(", "))));
    }
    let existing = capture::interfaces();
    if let Some(name) = options.interface.iter().find(|name| !existing.contains(name)) {
        return Err(LiveError::NoInterface { name: name.clone(), existing }.into());
    }
    // Each would write the other's shards.
    let twice = options.interface.iter().enumerate().find(|(n, name)| options.interface[..*n].contains(name));
    if let Some((_, name)) = twice {
        return Err(Failure::usage(format_args!("{name} is named twice")).next("give each interface once"));
    }
    let max_age = match options.keep_days {
        None => None,
        Some(days) if days > 0.0 && days < 1e6 => Some(Duration::from_secs_f64(days * 86_400.0)),
        Some(days) => {
            return Err(Failure::usage(format_args!("--keep-days {days} keeps nothing"))
                .next("give a number of days above 0"));
        }
    };
    let shard_size = shard_size(options, store)?;
    let taps: Vec<LiveConfig> =
        options.interface.iter().map(|name| tap(name, shard_size, options)).collect::<Result<_, _>>()?;
    taps.iter().try_for_each(LiveConfig::check)?;
    let retention = Retention {
        max_bytes: options.keep_bytes.map(|size| size.0),
        max_age,
        min_free: options.min_free.map(|size| size.0),
        imported: false,
    };
    Ok(Plan { taps, retention, shard_size, rtsp: rtsp::address(options.rtsp.as_deref())? })
}

/// As it was given, or such that what is kept is at least sixteen shards: the oldest one goes as a whole.
fn shard_size(options: &RecordOptions, store: &Path) -> Result<u64, Failure> {
    let taps = options.interface.len().max(1) as u64;
    let usual = WriterOptions::default().shard_size;
    let size = match (options.shard_size, options.keep_bytes) {
        (Some(size), _) => options::shard_size(size)?,
        (None, keep) => {
            let most = keep.map(|keep| keep.0).into_iter().chain(disk_bytes(store)).min();
            most.map_or(usual, |most| (most / 16 / taps).clamp(MIN_SHARD_SIZE, usual))
        }
    };
    // Two of each tap are in the making at any time.
    let needed = size * 4 * taps;
    match options.keep_bytes {
        Some(keep) if keep.0 < needed => Err(Failure::usage(format_args!(
            "--keep-bytes {keep} is too little to keep anything"
        ))
        .next(format_args!(
            "give at least {}, four shards for each interface, or a smaller --shard-size",
            ByteSize(needed)
        ))),
        _ => Ok(size),
    }
}

/// What the disk holds that a store is, or is to be, on.
fn disk_bytes(store: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(nearest_directory(store)?).ok()?;
    Some(disk.f_blocks * disk.f_frsize)
}

fn tap(name: &str, shard_size: u64, options: &RecordOptions) -> Result<LiveConfig, Failure> {
    let defaults = LiveConfig::new(name);
    let ring_bytes = match options.buffer {
        None => defaults.ring_bytes,
        Some(size) => u32::try_from(size.0)
            .ok()
            .filter(|bytes| (1 << 20..=i32::MAX as u32).contains(bytes))
            .ok_or_else(|| {
                Failure::usage(format_args!("--buffer {size} can't be had")).next("give from 1MiB to 2047MiB")
            })?,
    };
    let snaplen = options.snaplen.unwrap_or(defaults.snaplen);
    if !(64..=262_144).contains(&snaplen) {
        return Err(Failure::usage(format_args!("--snaplen {snaplen} can't be had"))
            .next("give from 64 to 262144 bytes"));
    }
    Ok(LiveConfig {
        filter: options.filter.clone(),
        filter_exact: options.filter_exact,
        snaplen,
        ring_bytes,
        promiscuous: !options.no_promisc,
        writer: WriterOptions { shard_size, ..defaults.writer },
        ..defaults
    })
}

/// The live block on a terminal, a line now and then elsewhere.
struct Display {
    block: Option<Block>,
    lines: PlainLines,
    began: Instant,
}

impl Display {
    fn new(console: &Console) -> Self {
        let block = console.is_terminal().then(|| console.block());
        Self { block, lines: PlainLines::new(), began: Instant::now() }
    }

    fn show(&mut self, status: &RecorderStatus, console: &Console) {
        match &self.block {
            Some(block) => block.show(&status.block()),
            None if self.lines.due(self.began.elapsed(), status) => console.say(status.plain()),
            None => {}
        }
    }

    fn end(&self) {
        if let Some(block) = &self.block {
            block.clear();
        }
    }
}

fn report(summary: &Summary, console: &Console) {
    for (interface, stats) in &summary.taps {
        console.say(format!(
            "{interface}: {} packets, {}; dropped: kernel {}, NIC {}, ours {}",
            count(stats.packets),
            ByteSize(stats.bytes),
            count(stats.dropped_kernel),
            count(stats.dropped_nic),
            count(stats.dropped_ours)
        ));
    }
    if let Some(streams) = summary.streams {
        console.say(format!("{} in the store", several(streams as u64, "stream")));
    }
}
