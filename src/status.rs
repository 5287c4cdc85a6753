//! The recorder's state as one document: what `status --json` prints, the live block shows and the plain lines tell.

use crate::size::{ByteSize, bit_rate, count, several};
use crate::times;
use serde::{Deserialize, Serialize};

/// One moment of a running recorder.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct RecorderStatus {
    /// The recorder's process.
    pub pid: u32,
    /// RFC 3339.
    pub started: String,
    /// Seconds since then.
    pub uptime_s: u64,
    /// The store's directory.
    pub store: String,
    /// Shards kept.
    pub shards: usize,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Room left on the filesystem.
    pub free_bytes: u64,
    /// The taps.
    pub interfaces: Vec<InterfaceStatus>,
    /// Bytes that are recorded and not indexed yet.
    pub index_lag_bytes: u64,
    /// Packets and connections that were beyond one of the index's bounds.
    #[serde(default)]
    pub index_over_bound: u64,
    /// Packets that one interface brought too late to be merged with the others' by time.
    #[serde(default)]
    pub index_out_of_order: u64,
    /// Recorded bytes in which no packet could be read.
    #[serde(default)]
    pub index_unreadable_bytes: u64,
    /// Streams known.
    pub streams: usize,
    /// Where RTSP is served, or nothing when it is off.
    pub rtsp: Option<String>,
    /// Sessions of RTSP clients.
    pub clients: usize,
    /// Packets sent to clients.
    pub client_packets: u64,
    /// Packets left out for clients that are too slow.
    pub client_dropped: u64,
    /// Camera sessions that are watched for failures.
    pub watched: usize,
    /// Of them, those that stand failed now.
    pub failed: usize,
    /// The latest failures and returns, oldest first.
    pub events: Vec<EventStatus>,
    /// What is done beside the recording, in words.
    #[serde(default)]
    pub work: Option<String>,
}

/// One tap.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct InterfaceStatus {
    /// The interface.
    pub name: String,
    /// False while it is down and waited for.
    pub up: bool,
    /// Packets recorded.
    pub packets: u64,
    /// Bytes recorded.
    pub bytes: u64,
    /// Packets a second, of late.
    pub packets_per_second: f64,
    /// Bytes a second, of late.
    pub bytes_per_second: f64,
    /// Lost because the kernel's ring was full.
    pub dropped_by_kernel: u64,
    /// Lost in the NIC.
    pub dropped_by_nic: u64,
    /// Lost because our own buffers were full: the disk was too slow.
    pub dropped_by_us: u64,
    /// Bytes that wait to be written.
    pub queued_bytes: u64,
    /// How many can wait.
    pub queue_bytes: u64,
    /// What keeps packets from being recorded, in words.
    pub trouble: Option<String>,
}

/// One failure or return.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct EventStatus {
    /// RFC 3339.
    pub at: String,
    /// True when something failed, false when it came back.
    pub failure: bool,
    /// In words.
    pub text: String,
}

impl RecorderStatus {
    /// The block that is redrawn on a terminal.
    pub fn block(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "recording for {}   {} in {}, {} free",
            times::lasting(i64::try_from(self.uptime_s).unwrap_or(i64::MAX).saturating_mul(1_000_000_000)),
            ByteSize(self.stored_bytes),
            several(self.shards as u64, "shard"),
            ByteSize(self.free_bytes),
        )];
        for interface in &self.interfaces {
            lines.extend(interface.lines());
        }
        lines.push(format!(
            "  index      {} behind   {}",
            ByteSize(self.index_lag_bytes),
            several(self.streams as u64, "stream"),
        ));
        let amiss = self.amiss();
        if !amiss.is_empty() {
            lines.push(format!("             {}", amiss.join(", ")));
        }
        if let Some(work) = &self.work {
            lines.push(format!("             {work}"));
        }
        lines.push(match &self.rtsp {
            Some(address) => {
                let clients = several(self.clients as u64, "client");
                format!("  rtsp       {address}   {clients}{}", self.slow_clients())
            }
            None => "  rtsp       off".to_owned(),
        });
        if self.watched > 0 || !self.events.is_empty() {
            lines.push(format!("  sessions   {} watched, {} failed", self.watched, self.failed));
        }
        for event in self.events.iter().rev().take(4).rev() {
            lines.push(format!("    {} {} {}", event.at, if event.failure { "✗" } else { "✓" }, event.text));
        }
        lines
    }

    /// One line for a log file.
    pub fn plain(&self) -> String {
        let rates: Vec<String> = self
            .interfaces
            .iter()
            .map(|i| {
                let state = if i.up { "" } else { " DOWN" };
                format!(
                    "{}{state} {:.0} packets/s {} total {} dropped kernel {} nic {} ours {} queue {}/{} MiB",
                    i.name,
                    i.packets_per_second,
                    bit_rate(i.bytes_per_second),
                    i.packets,
                    i.dropped_by_kernel,
                    i.dropped_by_nic,
                    i.dropped_by_us,
                    mebibytes(i.queued_bytes),
                    mebibytes(i.queue_bytes)
                )
            })
            .collect();
        format!(
            "{}; index {} bytes behind{}; {} streams; {} clients; {} of {} sessions failed{}",
            rates.join("; "),
            self.index_lag_bytes,
            self.amiss().iter().map(|what| format!(", {what}")).collect::<String>(),
            self.streams,
            self.clients,
            self.failed,
            self.watched,
            self.work.iter().map(|work| format!("; {work}")).collect::<String>()
        )
    }

    /// What the index could not take in as it should; nothing, mostly.
    fn amiss(&self) -> Vec<String> {
        let counted = [
            (self.index_over_bound, "beyond a bound"),
            (self.index_out_of_order, "packets out of order between interfaces"),
            (self.index_unreadable_bytes, "bytes unreadable"),
        ];
        counted.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect()
    }

    fn slow_clients(&self) -> String {
        match self.client_dropped {
            0 => String::new(),
            n => format!(", {} packets dropped for slow ones", count(n)),
        }
    }
}

impl InterfaceStatus {
    fn lines(&self) -> Vec<String> {
        if !self.up {
            let packets = count(self.packets);
            return vec![format!("  {:<10} down, waiting for it   {packets} packets so far", self.name)];
        }
        let received = format!(
            "  {:<10} {:>9} packets/s {:>12}   {} packets",
            self.name,
            count(self.packets_per_second as u64),
            bit_rate(self.bytes_per_second),
            count(self.packets),
        );
        let lost = format!(
            "             dropped: kernel {}, NIC {}, ours {}   queue {}/{} MiB",
            count(self.dropped_by_kernel),
            count(self.dropped_by_nic),
            count(self.dropped_by_us),
            mebibytes(self.queued_bytes),
            mebibytes(self.queue_bytes),
        );
        vec![received, lost]
    }
}

fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> RecorderStatus {
        RecorderStatus {
            uptime_s: 90,
            interfaces: vec![InterfaceStatus {
                name: "eth1".into(),
                up: true,
                packets: 1_234_567,
                dropped_by_kernel: 3,
                ..Default::default()
            }],
            rtsp: Some("127.0.0.1:8554".into()),
            events: (0..9)
                .map(|n| EventStatus { text: format!("event {n}"), ..Default::default() })
                .collect(),
            ..Default::default()
        }
    }

    #[test]
    fn the_block_shows_drops_by_place_and_the_latest_events_only() {
        let block = status().block().join("\n");
        assert!(block.contains("1,234,567 packets") && block.contains("kernel 3, NIC 0, ours 0"), "{block}");
        assert!(block.contains("event 8") && !block.contains("event 4"), "{block}");
        assert!(!block.contains("bound"), "{block}");
        let over = RecorderStatus { index_over_bound: 7, index_out_of_order: 1_000, ..status() };
        for text in [over.block().join("\n"), over.plain()] {
            assert!(text.contains("7 beyond a bound, 1,000 packets out of order"), "{text}");
        }
        let busy = InterfaceStatus {
            name: "enp3s0f1np1".into(),
            up: true,
            packets: 98_765_432_109,
            packets_per_second: 1_234_567.0,
            bytes_per_second: 1.25e9,
            queue_bytes: 64 << 20,
            ..Default::default()
        };
        let wide = RecorderStatus { interfaces: vec![busy], client_dropped: 1_000_000, ..status() }.block();
        assert!(wide.iter().all(|line| line.chars().count() <= 80), "{wide:#?}");
    }

    #[test]
    fn a_plain_line_is_one_line() {
        assert_eq!(status().plain().lines().count(), 1);
    }
}
