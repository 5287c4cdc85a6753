//! Blocks of both index levels: damage is an error, never a panic or an endless read.
#![no_main]
use libfuzzer_sys::fuzz_target;
use reconstruct::index::{BlockError, Carriers, FlowId, L1Reader, L2Reader, PacketEntry};

/// Packets for the second level to lie in: what the same bytes give as a first-level block.
struct Packets(Vec<PacketEntry>);

impl Carriers for Packets {
    type Error = BlockError;

    fn packet(&mut self, _: FlowId, entry: u32) -> Result<Option<PacketEntry>, BlockError> {
        Ok(self.0.get(entry as usize).copied())
    }
}

fuzz_target!(|data: &[u8]| {
    let mut packets = Packets(Vec::new());
    if let Ok(reader) = L1Reader::new(data) {
        packets.0 = reader.map_while(Result::ok).take(1 << 16).collect();
    }
    let Ok(mut reader) = L2Reader::new(capture::ShardId(1), data) else { return };
    let mut entries = 0;
    while let Ok(Some(_)) = reader.next_entry(&mut packets) {
        entries += 1;
        assert!(entries <= reader.entries());
    }
});
