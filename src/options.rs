//! Options that the command line and the configuration file share, word for word.
//!
//! One struct serves both: clap reads it from flags, serde from a table of `tapdeck.toml` whose keys are the flags' long
//! names. Flags win.

use crate::failure::Failure;
use crate::size::ByteSize;
use capture::MIN_SHARD_SIZE;
use clap::Args;
use serde::Deserialize;

/// How shards are written.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ImportOptions {
    /// Size of one shard (a pcap file of the store) [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    pub shard_size: Option<ByteSize>,
}

/// Where RTSP is served.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ServeOptions {
    /// Listen here for RTSP clients [default: 127.0.0.1:8554]
    #[arg(long, value_name = "ADDR")]
    pub rtsp: Option<String>,
}

/// What is recorded, how, and for how long it is kept.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RecordOptions {
    /// Record this interface; give it again for a second one
    #[arg(short, long, value_name = "IF")]
    pub interface: Vec<String>,
    /// Record only packets that match (pcap-filter syntax); without it, everything
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Option<String>,
    /// Take the filter to the letter: without later fragments, and without frames that carry a VLAN tag
    #[arg(long)]
    pub filter_exact: bool,
    /// Listen here for RTSP clients, or `off` [default: 127.0.0.1:8554]
    #[arg(long, value_name = "ADDR")]
    pub rtsp: Option<String>,
    /// Keep at most this much of shards; the oldest go first
    #[arg(long, value_name = "SIZE", help_heading = "Retention")]
    pub keep_bytes: Option<ByteSize>,
    /// Keep recorded footage for this many days (imported files stay)
    #[arg(long, value_name = "DAYS", help_heading = "Retention")]
    pub keep_days: Option<f64>,
    /// Keep this much of the filesystem free, at least room for the next shards; 0 deletes nothing for it [default: 1GiB, or a twentieth of a small one]
    #[arg(long, value_name = "SIZE", help_heading = "Retention")]
    pub min_free: Option<ByteSize>,
    /// Size of one shard (a pcap file of the store) [default: 256MiB, less when --keep-bytes or the filesystem is small]
    #[arg(long, value_name = "SIZE", help_heading = "Capture")]
    pub shard_size: Option<ByteSize>,
    /// Size of the kernel's capture ring, for each interface [default: 128MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Capture")]
    pub buffer: Option<ByteSize>,
    /// Keep at most this many bytes of a packet [default: 262144]
    #[arg(long, value_name = "BYTES", help_heading = "Capture")]
    pub snaplen: Option<u32>,
    /// Do not put the interface into promiscuous mode
    #[arg(long, help_heading = "Capture")]
    pub no_promisc: bool,
}

impl ImportOptions {
    /// What is not given here comes from `file`.
    pub fn or(self, file: &Self) -> Self {
        Self { shard_size: self.shard_size.or(file.shard_size) }
    }
}

impl ServeOptions {
    /// What is not given here comes from `file`.
    pub fn or(self, file: &Self) -> Self {
        Self { rtsp: self.rtsp.or_else(|| file.rtsp.clone()) }
    }
}

impl RecordOptions {
    /// What is not given here comes from `file`.
    pub fn or(self, file: &Self) -> Self {
        Self {
            interface: if self.interface.is_empty() { file.interface.clone() } else { self.interface },
            filter: self.filter.or_else(|| file.filter.clone()),
            filter_exact: self.filter_exact || file.filter_exact,
            rtsp: self.rtsp.or_else(|| file.rtsp.clone()),
            keep_bytes: self.keep_bytes.or(file.keep_bytes),
            keep_days: self.keep_days.or(file.keep_days),
            min_free: self.min_free.or(file.min_free),
            shard_size: self.shard_size.or(file.shard_size),
            buffer: self.buffer.or(file.buffer),
            snaplen: self.snaplen.or(file.snaplen),
            no_promisc: self.no_promisc || file.no_promisc,
        }
    }
}

/// `--shard-size` in bytes.
pub fn shard_size(asked: ByteSize) -> Result<u64, Failure> {
    match asked.0 >= MIN_SHARD_SIZE {
        true => Ok(asked.0),
        false => Err(Failure::usage(format_args!("--shard-size {asked} is too small"))
            .next(format_args!("give at least {}", ByteSize(MIN_SHARD_SIZE)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file() {
        let file = RecordOptions {
            interface: vec!["eth1".into()],
            filter: Some("udp".into()),
            snaplen: Some(96),
            ..Default::default()
        };
        let flags = RecordOptions { filter: Some("tcp".into()), ..Default::default() };
        let merged = flags.or(&file);
        assert_eq!(merged.interface, ["eth1"]);
        assert_eq!(merged.filter.as_deref(), Some("tcp"));
        assert_eq!(merged.snaplen, Some(96));
    }
}
