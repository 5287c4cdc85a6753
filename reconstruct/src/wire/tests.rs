//! Frames of every kind, etherparse as the second opinion.

use super::*;
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice, VlanSlice};
use proptest::prelude::*;

fn ethernet(rest: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend_from_slice(rest);
    frame
}

fn udp_packet(payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4([198, 18, 0, 1], [198, 18, 0, 2], 64)
        .udp(5000, 5002)
        .write(&mut packet, payload)
        .unwrap();
    packet
}

fn udp_payload<'a>(dissected: &Dissected<'a>) -> (u16, u16, &'a [u8], u32) {
    match dissected.transport {
        Transport::Udp { src, dst, payload, payload_len_on_wire } => (src, dst, payload, payload_len_on_wire),
        other => panic!("{other:?}"),
    }
}

#[test]
fn vlan_tags_up_to_three() {
    let ip = udp_packet(b"hello");
    let tags: [&[u8]; 4] = [&[0x81, 0, 0x60, 7], &[0x88, 0xa8, 0, 8], &[0x91, 0, 0, 9], &[0x81, 0, 0, 10]];
    for count in 0..=4 {
        let frame = ethernet(&[&tags[..count].concat(), &[8, 0][..], &ip].concat());
        let dissected = dissect(LinkType::ETHERNET, &frame);
        if count == 4 {
            assert_eq!(dissected, Err(Undissected::NotIp { ethertype: 0x8100 }));
            continue;
        }
        let dissected = dissected.unwrap();
        assert_eq!(dissected.vlans.ids(), &[7, 8, 9][..count]);
        assert_eq!(udp_payload(&dissected), (5000, 5002, &b"hello"[..], 5));
        assert_eq!(dissected.ethernet, Some(([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1])));
    }
}

#[test]
fn every_link_type() {
    let ip = udp_packet(b"x");
    let sll = [&[0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0][..], &ip].concat();
    let sll2 = [&[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0][..], &ip].concat();
    let null = |family: [u8; 4]| [&family[..], &ip].concat();
    for (link, frame) in [
        (LinkType::RAW, ip.clone()),
        (LinkType::RAW_BSD, ip.clone()),
        (LinkType::IPV4, ip.clone()),
        (LinkType::LINUX_SLL, sll),
        (LinkType::LINUX_SLL2, sll2),
        (LinkType::NULL, null([2, 0, 0, 0])),
        (LinkType::NULL, null([0, 0, 0, 2])),
        (LinkType::LOOP, null([0, 0, 0, 2])),
    ] {
        let dissected = dissect(link, &frame).unwrap();
        assert_eq!(udp_payload(&dissected), (5000, 5002, &b"x"[..], 1), "{link:?}");
        assert_eq!(offset_in(&frame, udp_payload(&dissected).2) as usize, frame.len() - 1);
    }
    assert_eq!(dissect(LinkType(147), &ip), Err(Undissected::UnknownLink(LinkType(147))));
    assert_eq!(dissect(LinkType::IPV6, &ip), Err(Undissected::Malformed(Layer::Ip)));
}

#[test]
fn not_ip_and_cut() {
    assert_eq!(
        dissect(LinkType::ETHERNET, &ethernet(&[8, 6, 0, 1])),
        Err(Undissected::NotIp { ethertype: 0x0806 })
    );
    let frame = ethernet(&[&[8, 0][..], &udp_packet(b"hello")].concat());
    for len in 0..frame.len() {
        match dissect_record(LinkType::ETHERNET, &frame[..len], frame.len() as u32) {
            Ok(dissected) => {
                assert!(dissected.cut && len >= 42);
                assert_eq!(udp_payload(&dissected).3, 5);
            }
            Err(error) => assert!(matches!(error, Undissected::Cut(_)), "{len}: {error}"),
        }
    }
}

#[test]
fn padding_of_short_frames_is_no_payload() {
    let mut frame = ethernet(&[&[8, 0][..], &udp_packet(b"hi")].concat());
    frame.resize(60, 0);
    let dissected = dissect(LinkType::ETHERNET, &frame).unwrap();
    assert_eq!((udp_payload(&dissected).2, dissected.cut), (&b"hi"[..], false));
}

#[test]
fn segmentation_offload_leaves_the_length_zero() {
    let mut ip = Vec::new();
    PacketBuilder::ipv4([198, 18, 0, 1], [198, 18, 0, 2], 64)
        .tcp(554, 50_000, 77, 8192)
        .ack(99)
        .write(&mut ip, &[7; 3000])
        .unwrap();
    ip[2..4].fill(0);
    let record = &ip[..2000];
    let dissected = dissect_record(LinkType::RAW, record, ip.len() as u32).unwrap();
    let Transport::Tcp { src, seq, ack, flags, payload, payload_len_on_wire, .. } = dissected.transport
    else {
        panic!("{dissected:?}")
    };
    assert_eq!((src, seq, ack, payload.len(), payload_len_on_wire), (554, 77, 99, 1960, 3000));
    assert!(flags.has(TcpFlags::ACK) && dissected.cut);
}

#[test]
fn fragments_of_both_versions() {
    let mut ip = udp_packet(&[5; 100]);
    (ip[4], ip[5], ip[6], ip[7]) = (0x12, 0x34, 0x20, 3);
    let Transport::Fragment(f) = dissect(LinkType::RAW, &ip).unwrap().transport else { panic!() };
    assert_eq!((f.id, f.offset, f.more, f.proto, f.payload.len()), (0x1234, 24, true, 17, 108));

    let mut six = vec![0x60, 0, 0, 0, 0, 24, 0, 64];
    six.extend_from_slice(&[1; 32]);
    // Hop-by-hop, then a fragment header.
    six.extend_from_slice(&[44, 0, 1, 4, 0, 0, 0, 0]);
    six.extend_from_slice(&[17, 0, 0, 0x10, 0xde, 0xad, 0xbe, 0xef]);
    six.extend_from_slice(&[9; 8]);
    let Transport::Fragment(f) = dissect(LinkType::RAW, &six).unwrap().transport else { panic!() };
    assert_eq!((f.id, f.offset, f.more, f.proto, f.payload), (0xdead_beef, 16, false, 17, &[9; 8][..]));
    // An atomic fragment is a whole datagram.
    six[51] = 0;
    six[56..64].copy_from_slice(&[0, 1, 0, 2, 0, 8, 0, 0]);
    assert_eq!(udp_payload(&dissect(LinkType::RAW, &six).unwrap()), (1, 2, &[][..], 0));
}

/// VLANs, ports, payload, TCP's numbers.
type Opinion = (Vec<u16>, u16, u16, Vec<u8>, Option<(u32, u32)>);

/// What etherparse makes of a frame that it accepts whole.
fn second_opinion(frame: &[u8]) -> Option<Opinion> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    if !matches!(sliced.net, Some(NetSlice::Ipv4(_) | NetSlice::Ipv6(_))) {
        return None;
    }
    let vlans = match sliced.vlan() {
        None => vec![],
        Some(VlanSlice::SingleVlan(v)) => vec![v.vlan_identifier().value()],
        Some(VlanSlice::DoubleVlan(v)) => {
            vec![v.outer.vlan_identifier().value(), v.inner.vlan_identifier().value()]
        }
    };
    match sliced.transport? {
        TransportSlice::Udp(u) => {
            Some((vlans, u.source_port(), u.destination_port(), u.payload().to_vec(), None))
        }
        TransportSlice::Tcp(t) => {
            let numbers = (t.sequence_number(), t.acknowledgment_number());
            Some((vlans, t.source_port(), t.destination_port(), t.payload().to_vec(), Some(numbers)))
        }
        _ => None,
    }
}

fn own_opinion(frame: &[u8]) -> Option<Opinion> {
    let d = dissect(LinkType::ETHERNET, frame).ok()?;
    let vlans = d.vlans.ids().to_vec();
    match d.transport {
        Transport::Udp { src, dst, payload, .. } => Some((vlans, src, dst, payload.to_vec(), None)),
        Transport::Tcp { src, dst, seq, ack, payload, .. } => {
            Some((vlans, src, dst, payload.to_vec(), Some((seq, ack))))
        }
        _ => None,
    }
}

proptest! {
    /// Well-formed frames: the same as etherparse, padding or not.
    #[test]
    fn agrees_with_etherparse(
        v6 in any::<bool>(), tcp in any::<bool>(), tags in 0usize..3, ports in any::<(u16, u16)>(),
        numbers in any::<(u32, u32)>(), payload in proptest::collection::vec(any::<u8>(), 0..200), padding in 0usize..50,
    ) {
        let ethernet = PacketBuilder::ethernet2([1; 6], [2; 6]);
        let ids = [100u16, 200].map(|id| etherparse::VlanId::try_new(id).unwrap());
        let ip = if v6 {
            let (src, dst) = ([1; 16], [2; 16]);
            match tags {
                0 => ethernet.ipv6(src, dst, 9),
                1 => ethernet.single_vlan(ids[0]).ipv6(src, dst, 9),
                _ => ethernet.double_vlan(ids[0], ids[1]).ipv6(src, dst, 9),
            }
        } else {
            let (src, dst) = ([198, 18, 0, 1], [198, 18, 0, 2]);
            match tags {
                0 => ethernet.ipv4(src, dst, 9),
                1 => ethernet.single_vlan(ids[0]).ipv4(src, dst, 9),
                _ => ethernet.double_vlan(ids[0], ids[1]).ipv4(src, dst, 9),
            }
        };
        let mut frame = Vec::new();
        if tcp {
            ip.tcp(ports.0, ports.1, numbers.0, 1000).ack(numbers.1).write(&mut frame, &payload).unwrap();
        } else {
            ip.udp(ports.0, ports.1).write(&mut frame, &payload).unwrap();
        }
        frame.resize(frame.len() + padding, 0);
        let own = own_opinion(&frame);
        prop_assert!(own.is_some());
        prop_assert_eq!(own, second_opinion(&frame));
    }

    /// Frames with a few bytes changed: where etherparse is content, we are, with the same result.
    #[test]
    fn agrees_on_damaged_frames(
        tcp in any::<bool>(), payload in proptest::collection::vec(any::<u8>(), 0..60),
        damage in proptest::collection::vec((12usize..60, any::<u8>()), 1..4), cut in 0usize..200,
    ) {
        let ip = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([198, 18, 0, 1], [198, 18, 0, 2], 9);
        let mut frame = Vec::new();
        if tcp {
            ip.tcp(1, 2, 3, 4).ack(5).write(&mut frame, &payload).unwrap();
        } else {
            ip.udp(1, 2).write(&mut frame, &payload).unwrap();
        }
        for (at, value) in damage {
            let at = at.min(frame.len() - 1);
            frame[at] = value;
        }
        frame.truncate(frame.len().max(cut) - cut.min(20));
        if let Some(theirs) = second_opinion(&frame) {
            // A length of 0 means offload to us and "to the end" or an error to etherparse; three tags are beyond its view.
            if let Some(own) = own_opinion(&frame) {
                prop_assert_eq!(own, theirs);
            } else {
                let d = dissect(LinkType::ETHERNET, &frame);
                prop_assert!(d.is_err(), "{:?}", d);
            }
        }
    }

    #[test]
    fn arbitrary_bytes(
        link in prop_oneof![
            Just(1u16), Just(0), Just(12), Just(14), Just(101), Just(108), Just(113), Just(228), Just(229), Just(276), any::<u16>()],
        bytes in proptest::collection::vec(any::<u8>(), 0..120), more in 0u32..2000,
    ) {
        let Ok(d) = dissect_record(LinkType(link), &bytes, bytes.len() as u32 + more) else { return Ok(()) };
        if let Transport::Tcp { payload, payload_len_on_wire, .. }
        | Transport::Udp { payload, payload_len_on_wire, .. } = d.transport
        {
            prop_assert!(payload.len() <= payload_len_on_wire as usize);
            prop_assert!(offset_in(&bytes, payload) as usize + payload.len() <= bytes.len());
        }
    }
}
