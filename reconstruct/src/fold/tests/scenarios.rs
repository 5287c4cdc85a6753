//! One scenario a test.

use super::wire::*;
use super::{Bench, Outcome, fold};
use crate::codec::{Codec, Kind};
use crate::model::{GapCause, GapEvidence, StreamKey, Transport};
use capture::{CaptureTime, TapId};
use std::net::SocketAddrV4;

fn camera(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(CAMERA, port)
}

fn vms(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(VMS, port)
}

/// A session over TCP: `count` pictures beginning with sequence number `first`.
pub fn interleaved_session(w: &mut Wire, client_port: u16, ssrc: u32, first: u16, count: u16) {
    let mut talk = Talk::open(w, vms(client_port), camera(554));
    talk.describe(w);
    interleaved_media(w, talk, ssrc, first, count);
}

fn interleaved_media(w: &mut Wire, mut talk: Talk, ssrc: u32, first: u16, count: u16) {
    talk.set_up(w, 0, "RTP/AVP/TCP;unicast;interleaved=0-1", "RTP/AVP/TCP;unicast;interleaved=0-1");
    talk.set_up(w, 1, "RTP/AVP/TCP;unicast;interleaved=2-3", "RTP/AVP/TCP;unicast;interleaved=2-3");
    talk.play(w);
    let mut stream = Vec::new();
    for (n, packet) in pictures(ssrc, first, count).iter().enumerate() {
        stream.extend(framed(0, packet));
        if n % 4 == 0 {
            let sound = rtp(0, ssrc + 1, n as u16, n as u32 * 160, false, &[0xd5; 160]);
            stream.extend(framed(2, &sound));
        }
    }
    talk.answer(w, &stream, 700);
    talk.tear_down(w);
}

/// A session over UDP: its RTSP dialogue.
fn udp_session(w: &mut Wire, client_port: u16, rtp_port: u16) -> Talk {
    let mut talk = Talk::open(w, vms(client_port), camera(554));
    talk.describe(w);
    let asked = format!("RTP/AVP;unicast;client_port={rtp_port}-{}", rtp_port + 1);
    talk.set_up(w, 0, &asked, &format!("{asked};server_port=6970-6971"));
    talk.play(w);
    talk
}

#[test]
fn an_interleaved_session_becomes_two_streams() {
    let mut w = Wire::at(1_000);
    interleaved_session(&mut w, 40_000, 0xaaaa, 65_530, 30);
    let out = fold(&w.frames);
    assert_eq!(out.names(), ["198.18.0.11-cam-video", "198.18.0.11-cam-audio"]);
    let video = &out.streams[0];
    assert_eq!((video.kind, video.codec, video.sdp), (Kind::Video, Some(Codec::H264), true));
    assert_eq!(video.transports, [Transport::Tcp]);
    assert_eq!(video.presentation, "198.18.0.11-cam");
    assert_eq!(video.camera_mac, Some([2, 0, 0, 0, 0, 11]));
    // Ten-picture groups begin with two parameter sets; every picture has two fragments.
    assert_eq!(out.sum(0, |p| p.packets), 66);
    assert_eq!(out.sum(0, |p| p.access_units), 30);
    assert_eq!(out.sum(0, |p| p.clean_points), 3);
    assert_eq!(out.sum(0, |p| p.lost), 0);
    assert_eq!(out.sum(1, |p| p.packets), 17);
    assert_eq!(video.parameter_sets.len(), 2);
}

/// The description was asked for over another connection, or before the tap was plugged in.
#[test]
fn tracks_that_were_set_up_without_a_description_stay_apart() {
    let mut w = Wire::at(1_000);
    let talk = Talk::open(&mut w, vms(40_000), camera(554));
    interleaved_media(&mut w, talk, 0xaaaa, 10, 30);
    w.wait(5_000);
    interleaved_session(&mut w, 40_001, 0xbbbb, 500, 20);
    let out = fold(&w.frames);
    assert_eq!(out.names(), ["198.18.0.11-cam-trackID-0", "198.18.0.11-cam-audio"]);
    assert_eq!((out.streams[0].kind, out.streams[0].codec), (Kind::Video, Some(Codec::H264)));
    assert_eq!((out.streams[1].kind, out.streams[1].codec), (Kind::Audio, Some(Codec::Pcmu)));
    assert_eq!((out.segments(0), out.segments(1)), (2, 2));
    assert_eq!((out.sum(0, |p| p.packets), out.sum(1, |p| p.packets)), (66 + 44, 17 + 11));
}

/// What waits behind a hole when the connection is reset belongs to its session, and what is missing is counted.
#[test]
fn a_hole_just_before_a_reset_is_counted() {
    let mut counted = 0;
    for lost_before_the_end in 4..12 {
        let mut w = Wire::at(1_000);
        let mut talk = Talk::open(&mut w, vms(40_000), camera(554));
        talk.describe(&mut w);
        let channels = "RTP/AVP/TCP;unicast;interleaved=0-1";
        talk.set_up(&mut w, 0, channels, channels);
        talk.play(&mut w);
        let stream: Vec<u8> = pictures(7, 100, 20).iter().flat_map(|packet| framed(0, packet)).collect();
        talk.answer(&mut w, &stream, 700);
        let lost = w.frames.len() - lost_before_the_end;
        w.frames.remove(lost);
        talk.reset(&mut w);
        let out = fold(&w.frames);
        assert_eq!(out.names(), ["198.18.0.11-cam-video"], "{lost_before_the_end}");
        assert_eq!(out.segments(0), 1, "{lost_before_the_end}");
        let (packets, gone) = (out.sum(0, |p| p.packets), out.sum(0, |p| p.lost));
        // What was left out may have been an acknowledgement.
        assert_eq!(packets + gone, 44, "{lost_before_the_end}: {packets} and {gone} lost");
        counted += u64::from(gone > 0);
    }
    assert!(counted >= 4, "{counted}");
}

#[test]
fn announced_datagrams_are_the_tracks() {
    let mut w = Wire::at(1_000);
    let mut talk = udp_session(&mut w, 40_000, 5000);
    for packet in pictures(7, 100, 20) {
        w.udp(camera(6970), vms(5000), &packet);
    }
    talk.tear_down(&mut w);
    let out = fold(&w.frames);
    assert_eq!(out.names(), ["198.18.0.11-cam-video"]);
    assert_eq!((out.sum(0, |p| p.packets), out.sum(0, |p| p.clean_points)), (44, 2));
    assert_eq!(out.streams[0].transports, [Transport::Udp]);
}

/// A camera with two addresses answers on one and sends from the other; nobody else's packets to that port are taken for its.
#[test]
fn media_from_another_address_is_known_by_its_ports() {
    let elsewhere = SocketAddrV4::new([198, 18, 0, 12].into(), 6970);
    let third = SocketAddrV4::new([198, 18, 0, 13].into(), 6970);
    let mut w = Wire::at(1_000);
    udp_session(&mut w, 40_000, 5000);
    for packet in pictures(7, 100, 20) {
        w.udp(elsewhere, vms(5000), &packet);
    }
    for packet in pictures(8, 500, 20) {
        w.udp(third, vms(5000), &packet);
    }
    let out = fold(&w.frames);
    assert_eq!(out.names(), ["198.18.0.11-cam-video", "198.18.0.13-video"]);
    assert_eq!((out.sum(0, |p| p.packets), out.streams[0].sdp), (44, true));
}

/// A router that maps it anew, or a camera that sends from another socket: within the session, with the same source.
#[test]
fn a_sender_that_changes_its_port_is_gone_on_with() {
    let sent = pictures(7, 100, 50);
    for (port_of, segments) in [
        ((|n| if n < 40 { 6970 } else { 7970 }) as fn(usize) -> u16, 2),
        (|n| if n == 40 { 7970 } else { 6970 }, 3),
        (|n| if n % 2 == 0 { 6970 } else { 7970 }, 2),
    ] {
        let mut w = Wire::at(1_000);
        udp_session(&mut w, 40_000, 5000);
        for (n, packet) in sent.iter().enumerate() {
            w.udp(camera(port_of(n)), vms(5000), packet);
        }
        let out = fold(&w.frames);
        assert_eq!((out.sum(0, |p| p.packets), out.sum(0, |p| p.lost)), (sent.len() as u64, 0));
        assert_eq!((out.names().len(), out.segments(0)), (1, segments));
    }
}

#[test]
fn a_reconnect_with_new_ports_and_ssrc_keeps_the_stream() {
    let mut w = Wire::at(1_000);
    interleaved_session(&mut w, 40_000, 0xaaaa, 10, 20);
    w.wait(5_000);
    interleaved_session(&mut w, 40_001, 0xbbbb, 500, 20);
    w.wait(5_000);
    let mut talk = udp_session(&mut w, 40_002, 6000);
    for packet in pictures(0xcccc, 9, 10) {
        w.udp(camera(6970), vms(6000), &packet);
    }
    talk.tear_down(&mut w);
    let out = fold(&w.frames);
    assert_eq!(out.names(), ["198.18.0.11-cam-video", "198.18.0.11-cam-audio"]);
    assert_eq!(out.segments(0), 3);
    assert_eq!(out.streams[0].transports, [Transport::Tcp, Transport::Udp]);
    assert_eq!(out.sum(0, |p| p.lost), 0);
}

#[test]
fn every_frame_twice_is_counted_and_kept_once() {
    let mut w = Wire::at(1_000);
    udp_session(&mut w, 40_000, 5000);
    for packet in pictures(7, 100, 20) {
        w.udp(camera(6970), vms(5000), &packet);
    }
    let twice: Vec<Captured> = w.frames.iter().flat_map(|f| [f.clone(), f.clone()]).collect();
    let out = fold(&twice);
    assert_eq!(out.names(), ["198.18.0.11-cam-video"]);
    assert_eq!((out.sum(0, |p| p.packets), out.sum(0, |p| p.duplicates)), (44, 44));
    assert_eq!(out.sum(0, |p| p.lost), 0);
}

#[test]
fn a_tag_on_one_of_two_copies_makes_no_second_flow() {
    let mut w = Wire::at(1_000);
    udp_session(&mut w, 40_000, 5000);
    for (n, packet) in pictures(7, 100, 20).iter().enumerate() {
        // The tagged copy complements the other, where that one was lost.
        if n % 10 != 3 {
            w.udp(camera(6970), vms(5000), packet);
        }
        w.udp_in(camera(6970), vms(5000), Some(100), packet);
    }
    let out = fold(&w.frames);
    assert_eq!(out.streams.len(), 1);
    assert_eq!((out.sum(0, |p| p.packets), out.sum(0, |p| p.lost)), (44, 0));
    assert!(out.dump.contains("vlans: [100]"));
}

#[test]
fn joined_late_the_stream_is_inferred_and_described_later() {
    let mut w = Wire::at(1_000);
    for packet in pictures(7, 100, 40) {
        w.udp(camera(6970), vms(5000), &packet);
    }
    let out = fold(&w.frames);
    assert_eq!(out.names(), ["198.18.0.11-video"]);
    assert!(!out.streams[0].sdp);
    assert_eq!((out.sum(0, |p| p.packets), out.sum(0, |p| p.clean_points)), (88, 4));
    w.wait(1_000);
    udp_session(&mut w, 40_000, 5002);
    for packet in pictures(8, 3, 40) {
        w.udp(camera(6970), vms(5002), &packet);
    }
    let out = fold(&w.frames);
    assert_eq!(out.names(), ["198.18.0.11-video"], "discovered later, it gets an alias and keeps its name");
    assert!(out.streams[0].sdp);
    assert!(matches!(out.streams[0].aliases[..], [StreamKey::Described { .. }]));
    assert_eq!(out.segments(0), 2);
}

/// Media that nobody announced, of a sender that is started again and again on the same ports: each has all its packets, the first ones too.
#[test]
fn a_sender_that_is_started_again_keeps_its_stream_and_all_its_packets() {
    let mut w = Wire::at(1_000);
    let mut sent = 0;
    for ssrc in 1..=9 {
        for packet in pictures(ssrc, 100, 300) {
            w.udp(camera(6970), vms(5000), &packet);
            sent += 1;
        }
        w.wait(60_000);
    }
    let out = fold(&w.frames);
    assert_eq!(out.names(), ["198.18.0.11-video"]);
    assert_eq!((out.segments(0), out.sum(0, |p| p.packets), out.sum(0, |p| p.lost)), (9, sent, 0));
    assert_eq!(out.sum(0, |p| p.clean_points), 9 * 30);
}

#[test]
fn a_session_that_goes_on_over_a_restart_keeps_its_streams() {
    let mut w = Wire::at(1_000);
    interleaved_session(&mut w, 40_000, 0xaaaa, 10, 60);
    let tcp = w.frames.len();
    udp_session(&mut w, 40_001, 5000);
    for packet in pictures(0xcccc, 100, 60) {
        w.udp(camera(6970), vms(5000), &packet);
    }
    // Another camera's session on the same ports of the VMS is not taken for it.
    let before_other = w.frames.len();
    for packet in pictures(0xdddd, 3, 60) {
        w.udp(camera(6970), vms(5000), &packet);
    }
    let mut bench = Bench::new();
    let cuts = [tcp / 2, tcp + (before_other - tcp) / 2];
    for (n, frame) in w.frames[..before_other].iter().enumerate() {
        if cuts.contains(&n) {
            bench.next_source();
        }
        bench.take(frame);
    }
    bench.next_source();
    bench.take_all(&w.frames[before_other..]);
    let out = bench.finish();
    assert_eq!(out.names(), ["198.18.0.11-cam-video", "198.18.0.11-cam-audio", "198.18.0.11-video"]);
    assert_eq!((out.segments(0), out.segments(1), out.segments(2)), (4, 2, 1));
    // The first cut is in the middle of a frame.
    assert_eq!((out.sum(0, |p| p.lost), out.sum(2, |p| p.lost)), (0, 0));
    assert_eq!(out.sum(2, |p| p.packets), 132);
}

#[test]
fn what_nobody_recorded_between_two_recordings_is_counted() {
    let mut w = Wire::at(1_000);
    udp_session(&mut w, 40_000, 5000);
    let packets = pictures(7, 65_500, 60);
    let mut cut = 0;
    for (n, packet) in packets.iter().enumerate() {
        if n == 60 {
            cut = w.frames.len();
        }
        w.udp(camera(6970), vms(5000), packet);
    }
    let frames = std::mem::take(&mut w.frames);
    let recorded = |missed: usize| {
        let mut bench = Bench::new();
        bench.take_all(&frames[..cut]);
        bench.next_source();
        bench.take_all(&frames[cut + missed..]);
        bench.finish()
    };
    let whole = recorded(0);
    assert_eq!((whole.segments(0), whole.sum(0, |p| p.lost)), (2, 0));
    let out = recorded(5);
    assert_eq!((out.streams.len(), out.segments(0), out.sum(0, |p| p.lost)), (1, 2, 5));
    let [gap] = &out.gaps[0][..] else { panic!("{:?}", out.gaps) };
    assert_eq!((gap.packets, gap.cause), (5, GapCause::Recorder));
    assert_eq!(gap.evidence, Some(GapEvidence::BetweenRecordings));
    assert_eq!(out.sum(0, |p| p.packets), packets.len() as u64 - 5);
}

#[test]
fn recordings_of_a_session_in_another_order_miss_nothing() {
    let mut w = Wire::at(1_000);
    udp_session(&mut w, 40_000, 5000);
    let dialogue = w.frames.len();
    for packet in &pictures(7, 100, 120) {
        w.udp(camera(6970), vms(5000), packet);
    }
    let third = (w.frames.len() - dialogue) / 3;
    let (a, b) = (dialogue + third, dialogue + 2 * third);
    // The second before the first; and one that lies within another.
    let orders = [[a..b, 0..a, b..w.frames.len()], [0..b, dialogue + 5..a, b..w.frames.len()]];
    for order in orders {
        let mut bench = Bench::new();
        for (n, part) in order.into_iter().enumerate() {
            if n > 0 {
                bench.next_source();
            }
            bench.take_all(&w.frames[part]);
        }
        let out = bench.finish();
        let lost: u64 = (0..out.streams.len()).map(|stream| out.sum(stream, |p| p.lost)).sum();
        assert_eq!(lost, 0, "{:?}", out.gaps);
    }
}

#[test]
fn a_frame_that_two_recordings_have_a_part_of_each_is_whole() {
    let mut w = Wire::at(1_000);
    interleaved_session(&mut w, 40_000, 0xaaaa, 10, 40);
    let whole = fold(&w.frames);
    let first = w.frames.iter().position(|f| f.data.len() == 14 + 20 + 20 + 700).expect("a full segment");
    let counts = |out: &Outcome| {
        let of = |stream| (out.sum(stream, |p| p.packets), out.sum(stream, |p| p.bytes));
        (out.names().join(" "), of(0), of(1), out.sum(0, |p| p.lost))
    };
    for cut in first + 1..w.frames.len() {
        // At the border: nothing; a copy of the packet before; the next two exchanged; a file with the next one alone.
        for at_border in 0..4 {
            let (before, mut after) = w.frames.split_at(cut);
            let mut border = Vec::new();
            if at_border == 1 {
                border = vec![before[cut - 1].clone()];
            } else if at_border == 2 && after.len() >= 2 {
                border = vec![after[1].clone(), after[0].clone()];
                after = &after[2..];
            }
            let mut bench = Bench::new();
            bench.take_all(before);
            bench.next_source();
            bench.take_all(&border);
            // What a few packets of one moment go on with nobody knows.
            if at_border == 3 && cut > first + 8 {
                bench.take(&after[0]);
                bench.next_source();
                after = &after[1..];
            }
            bench.take_all(after);
            let out = bench.finish();
            assert_eq!(counts(&out), counts(&whole), "cut at {cut}, {at_border}");
        }
    }
}

#[test]
fn a_file_may_begin_with_an_acknowledgement_of_what_was_sent_long_before() {
    let mut w = Wire::at(1_000);
    let mut talk = Talk::open(&mut w, vms(40_000), camera(554));
    talk.describe(&mut w);
    let transport = "RTP/AVP/TCP;unicast;interleaved=0-1";
    talk.set_up(&mut w, 0, transport, transport);
    talk.play(&mut w);
    let begin = talk.server_seq;
    let stream: Vec<u8> = pictures(7, 10, 60).iter().flat_map(|p| framed(0, p)).collect();
    let mut cut = 0;
    for (n, part) in stream.chunks(700).enumerate() {
        if n == 40 {
            // The VMS is far away: 27 KiB are on their way to it.
            cut = w.frames.len();
            w.tcp(talk.client, talk.server, talk.client_seq, begin.wrapping_add(700), "A", &[]);
        }
        w.tcp(talk.server, talk.client, talk.server_seq, talk.client_seq, "PA", part);
        talk.server_seq = talk.server_seq.wrapping_add(part.len() as u32);
    }
    let whole = fold(&w.frames);
    let mut bench = Bench::new();
    bench.take_all(&w.frames[..cut]);
    bench.next_source();
    bench.take_all(&w.frames[cut..]);
    let out = bench.finish();
    assert_eq!((out.sum(0, |p| p.packets), out.sum(0, |p| p.lost)), (whole.sum(0, |p| p.packets), 0));
}

#[test]
fn another_capture_of_the_same_connection_is_not_taken_for_what_goes_on() {
    let mut w = Wire::at(1_000);
    interleaved_session(&mut w, 40_000, 0xaaaa, 10, 60);
    let frames = &w.frames;
    let begin = frames.iter().position(|f| f.data.len() == 14 + 20 + 20 + 700).expect("a full segment");
    let (third, half) = (begin + (frames.len() - begin) / 3, begin + (frames.len() - begin) / 2);
    let alone = |part: &[Captured]| fold(part).sum(0, |p| p.packets);
    let after = |first: &[Captured], then: &[Captured]| {
        let mut bench = Bench::new();
        bench.take_all(first);
        bench.next_source();
        bench.take_all(then);
        let out = bench.finish();
        (0..out.streams.len())
            .filter(|s| out.streams[*s].codec == Some(Codec::H264))
            .map(|s| out.sum(s, |p| p.packets))
            .sum::<u64>()
    };
    let lossy: Vec<Captured> =
        frames.iter().enumerate().filter(|(n, _)| n % 9 != 8).map(|(_, f)| f.clone()).collect();
    // The part before; the same again; the whole; one that begins within it; the same from another tap that lost some of it.
    assert_eq!(after(&frames[half..], &frames[..half]), alone(&frames[half..]) + alone(&frames[..half]));
    assert_eq!(after(&frames[..half], &frames[..half]), 2 * alone(&frames[..half]));
    assert_eq!(after(&frames[..half], frames), alone(&frames[..half]) + alone(frames));
    assert_eq!(after(&frames[..half], &frames[third..]), alone(&frames[..half]) + alone(&frames[third..]));
    assert_eq!(after(&lossy, frames), alone(&lossy) + alone(frames));
    assert_eq!(after(frames, &lossy), alone(frames) + alone(&lossy));
}

#[test]
fn a_frame_whose_end_nobody_recorded_is_counted() {
    let mut w = Wire::at(1_000);
    interleaved_session(&mut w, 40_000, 0xaaaa, 10, 400);
    let whole = fold(&w.frames);
    let full = |f: &Captured| f.data.len() == 14 + 20 + 20 + 700;
    let cut = w.frames.iter().enumerate().filter(|(_, f)| full(f)).nth(20).expect("a full segment").0 + 1;
    // Every other one is an acknowledgement. Few enough that the connection is gone on with, and so many that it is not.
    for missed in [2, 60] {
        let mut bench = Bench::new();
        bench.take_all(&w.frames[..cut]);
        bench.next_source();
        bench.take_all(&w.frames[cut + missed..]);
        let out = bench.finish();
        let (lost, packets) = (out.sum(0, |p| p.lost), out.sum(0, |p| p.packets));
        assert_eq!((lost > 0, packets + lost), (true, whole.sum(0, |p| p.packets)));
        let [gap] = &out.gaps[0][..] else { panic!("{:?}", out.gaps[0]) };
        assert_eq!(gap.evidence, Some(GapEvidence::BetweenRecordings), "{missed}");
    }
}

#[test]
fn interleaved_media_is_picked_up_in_mid_stream() {
    let mut w = Wire::at(1_000);
    interleaved_session(&mut w, 40_000, 0xaaaa, 10, 60);
    // The tap was plugged in while pictures flowed, in the middle of a segment's frame.
    let begin = w.frames.len() / 2;
    let out = fold(&w.frames[begin..]);
    assert_eq!(out.streams.len(), 2, "{:?}", out.names());
    let video = out.streams.iter().position(|s| s.codec == Some(Codec::H264)).expect("pictures");
    assert!(out.sum(video, |p| p.packets) > 40);
    assert_eq!(out.sum(video, |p| p.lost), 0);
}

#[test]
fn reordered_datagrams_are_put_in_order_and_lost_ones_are_a_gap() {
    let mut w = Wire::at(1_000);
    udp_session(&mut w, 40_000, 5000);
    let mut packets = pictures(7, 100, 200);
    packets.swap(20, 21);
    packets.swap(60, 63);
    packets.drain(100..103);
    for packet in &packets {
        w.udp(camera(6970), vms(5000), packet);
    }
    let out = fold(&w.frames);
    assert_eq!(out.sum(0, |p| p.packets), packets.len() as u64);
    assert_eq!(out.sum(0, |p| p.lost), 3);
    assert_eq!(out.sum(0, |p| p.reordered), 4);
    let [gap] = &out.gaps[0][..] else { panic!("{:?}", out.gaps) };
    assert_eq!((gap.packets, gap.cause), (3, GapCause::Undetermined));
    assert_eq!(out.segments(0), 1);
}

#[test]
fn a_hole_that_the_vms_acknowledged_is_the_mirrors() {
    let mut w = Wire::at(1_000);
    interleaved_session(&mut w, 40_000, 0xaaaa, 10, 400);
    let full = |f: &Captured| f.data.len() == 14 + 20 + 20 + 700;
    let lost = w.frames.iter().enumerate().filter(|(_, f)| full(f)).nth(20).expect("a full segment").0;
    w.frames.remove(lost);
    let out = fold(&w.frames);
    assert!(out.sum(0, |p| p.lost) > 0);
    assert!(out.gaps[0].iter().all(|g| g.cause == GapCause::Mirror), "{:?}", out.gaps[0]);
}

#[test]
fn what_the_tap_missed_explains_a_gap_whichever_is_known_first() {
    let mut w = Wire::at(1_000);
    udp_session(&mut w, 40_000, 5000);
    let mut packets = pictures(7, 100, 400);
    packets.drain(100..103);
    for packet in &packets {
        w.udp(camera(6970), vms(5000), packet);
    }
    let told = |tap: u32, away: bool, before: bool| {
        let span = (CaptureTime::from_nanos(0), CaptureTime::from_nanos(10_000_000_000));
        let tell = |bench: &mut Bench| match away {
            true => bench.fold.handle_absence(TapId(tap), span),
            false => bench.fold.handle_drops(TapId(tap), span, 3),
        };
        let mut bench = Bench::new();
        if before {
            tell(&mut bench);
        }
        bench.take_all(&w.frames);
        if !before {
            tell(&mut bench);
        }
        bench.finish()
    };
    let evidence =
        [GapEvidence::Drops { tap: TapId(1), packets: 3 }, GapEvidence::InterfaceAway { tap: TapId(1) }];
    for (away, evidence) in [false, true].into_iter().zip(evidence) {
        let (before, after) = (told(1, away, true), told(1, away, false));
        let gap = &before.gaps[0][0];
        assert_eq!((gap.cause, &gap.evidence), (GapCause::Recorder, &Some(evidence)));
        assert_eq!(before.dump, after.dump);
        // What another tap missed says nothing about it.
        for before in [true, false] {
            assert_eq!(told(2, away, before).gaps[0][0].cause, GapCause::Undetermined);
        }
    }
}

#[test]
fn a_camera_that_counts_from_elsewhere_begins_a_segment() {
    let mut w = Wire::at(1_000);
    udp_session(&mut w, 40_000, 5000);
    for packet in pictures(7, 100, 50).iter().chain(&pictures(7, 40_000, 50)) {
        w.udp(camera(6970), vms(5000), packet);
    }
    let out = fold(&w.frames);
    assert_eq!((out.segments(0), out.sum(0, |p| p.lost), out.sum(0, |p| p.packets)), (2, 0, 220));
}

#[test]
fn what_is_no_media_makes_no_stream() {
    let mut w = Wire::at(1_000);
    // A session without media, and the NAT punches of both sides.
    udp_session(&mut w, 40_000, 5000);
    for n in 0..20 {
        w.udp(vms(5000), camera(6970), &rtp(0, 0, n, 0, false, &[]));
        w.udp(camera(6970), vms(5000), &rtp(0, 0, n, 0, false, &[]));
    }
    // DNS, random datagrams whose first bits look like RTP, and a web page.
    let mut noise = 0x9e37_79b9_u32;
    for n in 0..500u16 {
        w.udp(vms(53_000), camera(53), &[n as u8, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, b'c', b'a', b'm', 0]);
        let random: Vec<u8> = (0..64)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (noise >> 24) as u8
            })
            .collect();
        w.udp(vms(60_000), camera(60_000), &[&[0x80][..], &random].concat());
    }
    let mut web = Talk::open(&mut w, vms(41_000), camera(80));
    web.ask(&mut w, b"GET / HTTP/1.1\r\nHost: camera\r\n\r\n");
    web.answer(
        &mut w,
        &[b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n", &[0x24; 90_000][..]].concat(),
        1448,
    );
    let out = fold(&w.frames);
    assert_eq!(out.names(), [""; 0]);
}

/// A session in which the camera counts on from somewhere else; how many packets it sent.
pub fn restarted() -> (Wire, usize) {
    let mut w = Wire::at(1_000);
    udp_session(&mut w, 40_000, 5000);
    let packets = [pictures(7, 100, 20), pictures(7, 30_000, 20)].concat();
    packets.iter().for_each(|packet| w.udp(camera(6970), vms(5000), packet));
    (w, packets.len())
}

/// A session of 20 RTP packets, each a datagram in three fragments, which come in this order.
pub fn fragmented(order: [usize; 3]) -> Wire {
    let mut w = Wire::at(1_000);
    udp_session(&mut w, 40_000, 5000);
    for n in 0..20u16 {
        let whole =
            rtp(96, 7, n, u32::from(n) * 3000, true, &[&[0x65][..], &vec![n as u8 | 1; 3000]].concat());
        let mut datagram = vec![0; 8];
        datagram[..2].copy_from_slice(&6970u16.to_be_bytes());
        datagram[2..4].copy_from_slice(&5000u16.to_be_bytes());
        datagram[4..6].copy_from_slice(&((8 + whole.len()) as u16).to_be_bytes());
        datagram.extend_from_slice(&whole);
        let parts: Vec<&[u8]> = datagram.chunks(1480).collect();
        for k in order {
            let part = parts[k];
            let mut frame = vec![2, 0, 0, 0, 0, 50, 2, 0, 0, 0, 0, 11, 8, 0, 0x45, 0];
            frame.extend_from_slice(&((20 + part.len()) as u16).to_be_bytes());
            frame.extend_from_slice(&n.to_be_bytes());
            let more = if (k + 1) * 1480 < datagram.len() { 0x2000u16 } else { 0 };
            frame.extend_from_slice(&(more | (k * 185) as u16).to_be_bytes());
            frame.extend_from_slice(&[64, 17, 0, 0]);
            frame.extend_from_slice(&CAMERA.octets());
            frame.extend_from_slice(&VMS.octets());
            frame.extend_from_slice(part);
            w.now_ms += 1;
            let time = CaptureTime::from_nanos(w.now_ms * 1_000_000);
            w.frames.push(Captured { time, tap: 1, data: frame });
        }
    }
    w
}

#[test]
fn fragments_of_datagrams_are_one_packet() {
    for order in [[0, 1, 2], [0, 2, 1], [2, 1, 0], [1, 0, 2]] {
        let out = fold(&fragmented(order).frames);
        assert_eq!(out.names(), ["198.18.0.11-cam-video"], "{order:?}");
        assert_eq!((out.sum(0, |p| p.packets), out.sum(0, |p| p.bytes)), (20, 20 * (12 + 3001)), "{order:?}");
    }
}

#[test]
fn flows_beyond_the_bound_share_one_and_are_counted() {
    let mut bench = Bench::new();
    bench.fold = crate::fold::Fold::new(crate::fold::Limits { flows_max: 10, ..Default::default() });
    let mut w = Wire::at(1_000);
    for port in 0..50 {
        w.udp(vms(1_000 + port), camera(9), b"discard");
    }
    bench.take_all(&w.frames);
    let out = bench.finish();
    assert_eq!(out.fold.stats().flows_over_bound, 40);
    assert_eq!(out.dump.lines().filter(|l| l.starts_with("FlowRow")).count(), 11);
}
