//! Payload formats that are nothing but the coded bytes: G.711, G.722, G.726, MPEG-4 part 2, transport streams.

use super::{Counts, Depacketizer, Packet, Sink, Unit};

/// Each payload as it is.
#[derive(Debug, Clone, Default)]
pub struct Raw {
    counts: Counts,
}

impl Depacketizer for Raw {
    fn handle(&mut self, packet: Packet<'_>, sink: &mut dyn Sink) {
        self.counts.packets += 1;
        if !packet.payload.is_empty() {
            self.counts.units += 1;
            sink.unit(Unit { bytes: packet.payload, timestamp: packet.timestamp });
        }
    }

    fn finish(&mut self, _: &mut dyn Sink) {}

    fn counts(&self) -> Counts {
        self.counts
    }
}
