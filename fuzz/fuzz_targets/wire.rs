//! A record of any link type, cut anywhere: first two bytes link type, third how much longer the packet was.
#![no_main]
use capture::LinkType;
use libfuzzer_sys::fuzz_target;
use reconstruct::wire::{Transport, dissect_record, offset_in};

fuzz_target!(|data: &[u8]| {
    let [a, b, more, data @ ..] = data else { return };
    let link = LinkType(u16::from_le_bytes([*a, *b]));
    let Ok(d) = dissect_record(link, data, data.len() as u32 + u32::from(*more)) else { return };
    if let Transport::Udp { payload, payload_len_on_wire, .. }
    | Transport::Tcp { payload, payload_len_on_wire, .. } = d.transport
    {
        assert!(payload.len() <= payload_len_on_wire as usize);
        assert!(offset_in(data, payload) as usize + payload.len() <= data.len());
    }
});
