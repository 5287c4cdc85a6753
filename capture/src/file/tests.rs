use super::*;
use proptest::prelude::*;

/// Every step that is not `Skip`, owned, feeding `file` in pieces of at most `piece` bytes more than was asked for.
/// Interface, time in nanoseconds, length on the wire, data.
type Packet = (u32, i64, u32, Vec<u8>);

fn read(file: &[u8], piece: usize) -> (Vec<Packet>, Vec<FileInterface>, Option<Damage>) {
    let (mut records, mut interfaces) = (Vec::new(), Vec::new());
    let (mut parser, mut at, mut window) = (FileParser::default(), 0, piece);
    loop {
        let end = (at + window).min(file.len());
        match parser.next(&file[at..end], end == file.len()) {
            Ok(Step::Record { interface, time, original_len, data }) => {
                records.push((interface, time.nanos(), original_len, data.to_vec()));
            }
            Ok(Step::Interface(i)) => interfaces.push(i),
            Ok(Step::Skip) => {}
            Ok(Step::NeedMore(n)) => {
                assert!(n > end - at, "asks for more than it has");
                window = n;
                continue;
            }
            Ok(Step::End) => return (records, interfaces, None),
            Err(damage) => return (records, interfaces, Some(damage)),
        }
        at += parser.consumed();
        window = piece;
    }
}

fn pcap(big_endian: bool, magic: u32, records: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let w = |v: u32| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
    let h = |v: u16| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
    let mut file = [&w(magic)[..], &h(2), &h(4), &[0; 8], &w(65_535), &w(1)].concat();
    for (secs, sub, data) in records {
        for v in [*secs, *sub, data.len() as u32, data.len() as u32 + 4] {
            file.extend(w(v));
        }
        file.extend(*data);
    }
    file
}

fn block(big_endian: bool, kind: u32, body: &[u8]) -> Vec<u8> {
    let w = |v: u32| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
    let padded = body.len().next_multiple_of(4);
    let len = w((12 + padded) as u32);
    [&w(kind)[..], &len, body, &vec![0; padded - body.len()], &len].concat()
}

fn pcapng_section(big_endian: bool, tsresol: u8, name: &str, units: u64, data: &[u8]) -> Vec<u8> {
    let w = |v: u32| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
    let h = |v: u16| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
    let mut padded_name = name.as_bytes().to_vec();
    padded_name.resize(name.len().next_multiple_of(4), 0);
    let section = [&w(0x1a2b_3c4d)[..], &h(1), &h(0), &[0xff; 8]].concat();
    let interface = [
        &h(1)[..],
        &h(0),
        &w(262_144),
        &h(2),
        &h(name.len() as u16),
        &padded_name,
        &h(9),
        &h(1),
        &[tsresol, 0, 0, 0],
        &h(0),
        &h(0),
    ]
    .concat();
    let packet = [
        &w(0)[..],
        &w((units >> 32) as u32),
        &w(units as u32),
        &w(data.len() as u32),
        &w(data.len() as u32),
        data,
    ]
    .concat();
    [block(big_endian, SECTION, &section), block(big_endian, 1, &interface), block(big_endian, 6, &packet)]
        .concat()
}

const SECTION: u32 = 0x0a0d_0d0a;

#[test]
fn both_byte_orders_and_resolutions_of_pcap() {
    for big_endian in [false, true] {
        let micros = pcap(big_endian, 0xa1b2_c3d4, &[(7, 5, b"abc"), (8, 0, b"")]);
        let (records, interfaces, damage) = read(&micros, 1);
        assert_eq!(records, [(0, 7_000_005_000, 7, b"abc".to_vec()), (0, 8_000_000_000, 4, vec![])]);
        assert_eq!((interfaces[0].link, interfaces[0].snaplen, damage), (LinkType::ETHERNET, 65_535, None));
        let nanos = pcap(big_endian, 0xa1b2_3c4d, &[(7, 5, b"abc")]);
        assert_eq!(read(&nanos, 4096).0, [(0, 7_000_000_005, 7, b"abc".to_vec())]);
    }
}

#[test]
fn a_cut_pcap_keeps_what_is_before_the_cut_and_names_the_offset() {
    let file = pcap(false, 0xa1b2_c3d4, &[(1, 0, b"first"), (2, 0, b"second")]);
    let (records, _, damage) = read(&file[..file.len() - 2], 4096);
    assert_eq!(records.len(), 1);
    assert_eq!(
        damage,
        Some(Damage { offset: 24 + 16 + 5, kind: DamageKind::Cut { present: 20, needed: 22 } })
    );
}

#[test]
fn sections_of_both_byte_orders_number_their_interfaces_on() {
    let file = [
        pcapng_section(false, 9, "eth0", 1_500_000_000_123_456_789, b"one"),
        block(false, 0x0bad_beef, b"custom"),
        pcapng_section(true, 6, "lan9", 1_500_000_000_123_456, b"two"),
        pcapng_section(true, 0x80 | 10, "b", 3 << 10 | 512, b"three"),
    ]
    .concat();
    for piece in [1, 13, 4096] {
        let (records, interfaces, damage) = read(&file, piece);
        assert_eq!(damage, None);
        assert_eq!(
            interfaces.iter().map(|i| i.name.as_deref().unwrap()).collect::<Vec<_>>(),
            ["eth0", "lan9", "b"]
        );
        assert_eq!(
            records,
            [
                (0, 1_500_000_000_123_456_789, 3, b"one".to_vec()),
                (1, 1_500_000_000_123_456_000, 3, b"two".to_vec()),
                (2, 3_500_000_000, 5, b"three".to_vec())
            ]
        );
    }
}

#[test]
fn what_is_no_capture_is_named() {
    assert_eq!(read(b"", 1).2.unwrap().kind, DamageKind::Empty);
    assert!(matches!(
        read(b"GIF89a and more than that, to be sure", 64).2.unwrap().kind,
        DamageKind::NotACapture { .. }
    ));
    let mut huge = pcap(false, 0xa1b2_c3d4, &[(1, 0, b"x")]);
    huge[24 + 8..24 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(read(&huge, 64).2.unwrap(), Damage { offset: 24, kind: DamageKind::Length { .. } }));
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic_and_always_end(mut file in proptest::collection::vec(any::<u8>(), 0..600), format in 0..4usize, at in 0usize..400, with: u8) {
        if format < 3 {
            let good = [pcap(false, 0xa1b2_c3d4, &[(1, 0, &b"abc"[..]); 5]), pcapng_section(true, 6, "x", 9, b"abc"), pcapng_section(false, 200, "x", u64::MAX, b"abc")];
            file = good[format].clone();
            let at = at % file.len();
            file[at] = with;
        }
        read(&file, 7);
    }

    #[test]
    fn pieces_make_no_difference(piece in 1usize..200) {
        let file = pcap(true, 0xa1b2_3c4d, &[(1, 1, b"abc"), (2, 2, &[7; 150]), (3, 3, b"")]);
        prop_assert_eq!(read(&file, piece), read(&file, 4096));
    }
}
