//! The detector in simulated time: each test is one thing that happens to an installation.

use capture::CaptureTime;
use failover::{Detector, Event, EventKind, Observation, SessionKey, Thresholds};
use proptest::prelude::*;

/// One camera and one VMS, sampled every second.
struct Room {
    detector: Detector,
    second: i64,
    tap_packets: u64,
    media: u64,
    signs: u64,
    events: Vec<Event>,
}

/// What happens in one second.
#[derive(Clone, Copy)]
struct Second {
    media: u64,
    signs: u64,
    other_traffic: u64,
    due: bool,
}

const FINE: Second = Second { media: 25, signs: 10, other_traffic: 100, due: true };

fn at(second: i64) -> CaptureTime {
    CaptureTime::from_secs_nanos(1_795_262_400 + second, 0)
}

impl Room {
    fn new() -> Self {
        Self {
            detector: Detector::new(Thresholds::default()),
            second: 0,
            tap_packets: 0,
            media: 0,
            signs: 0,
            events: Vec::new(),
        }
    }

    fn pass(&mut self, seconds: i64, what: Second) -> &mut Self {
        for _ in 0..seconds {
            self.second += 1;
            self.media += what.media;
            self.signs += what.signs;
            self.tap_packets += what.media + what.signs + what.other_traffic;
            self.detector.handle_tap(at(self.second), self.tap_packets);
            let seen = Observation {
                session: SessionKey(1),
                camera: "entrance",
                vms: "198.18.0.2",
                media_packets: self.media,
                vms_signs: self.signs,
                media_due: what.due,
            };
            self.detector.handle_observation(at(self.second), seen);
            while let Some(event) = self.detector.poll_event() {
                self.events.push(event);
            }
        }
        self
    }

    fn kinds(&self) -> Vec<EventKind> {
        self.events.iter().map(|event| event.kind).collect()
    }
}

#[test]
fn a_vms_that_stops_acknowledging_is_told_once_and_its_return_once() {
    let mut room = Room::new();
    room.pass(30, FINE).pass(20, Second { signs: 0, ..FINE }).pass(20, FINE);
    assert!(
        matches!(room.kinds()[..], [EventKind::VmsSilent { since }, EventKind::VmsBack { .. }] if since == at(31)),
        "{:?}",
        room.events
    );
    assert_eq!(room.detector.failed(), 0);
}

#[test]
fn a_camera_that_goes_silent_is_not_the_vms_fault() {
    let mut room = Room::new();
    room.pass(30, FINE).pass(20, Second { media: 0, signs: 0, ..FINE });
    assert!(
        matches!(room.kinds()[..], [EventKind::MediaSilent { since }] if since == at(30)),
        "{:?}",
        room.events
    );
    assert_eq!(room.detector.failed(), 1);
}

#[test]
fn a_silent_mirror_port_says_nothing_about_sessions() {
    let mut room = Room::new();
    let silence = Second { media: 0, signs: 0, other_traffic: 0, due: true };
    room.pass(30, FINE).pass(60, silence).pass(10, FINE);
    assert!(
        matches!(room.kinds()[..], [EventKind::TapSilent { .. }, EventKind::TapBack { .. }]),
        "{:?}",
        room.events
    );
}

#[test]
fn a_paused_session_owes_no_media() {
    let mut room = Room::new();
    room.pass(30, FINE).pass(120, Second { media: 0, signs: 0, due: false, ..FINE }).pass(30, FINE);
    assert!(room.events.is_empty(), "{:?}", room.events);
}

#[test]
fn a_vms_that_reports_every_ten_seconds_is_alive() {
    let mut room = Room::new();
    for _ in 0..20 {
        room.pass(1, FINE).pass(9, Second { signs: 0, ..FINE });
    }
    let early: Vec<_> = room.events.iter().filter(|event| event.at > at(60)).collect();
    assert!(early.is_empty(), "{early:?}");
}

#[test]
fn a_session_that_ended_is_no_failure() {
    let mut room = Room::new();
    room.pass(30, FINE);
    room.detector.handle_end(SessionKey(1));
    assert_eq!(room.detector.watched(), 0);
    assert!(room.detector.poll_event().is_none());
}

#[test]
fn sessions_and_events_are_bounded() {
    let mut detector = Detector::new(Thresholds::default());
    let sessions = u32::try_from(failover::detector::MAX_SESSIONS).unwrap();
    for session in 0..sessions + 10 {
        let seen = Observation {
            session: SessionKey(session),
            camera: "c",
            vms: "v",
            media_packets: 0,
            vms_signs: 0,
            media_due: true,
        };
        detector.handle_observation(at(0), seen);
    }
    assert_eq!(detector.watched(), failover::detector::MAX_SESSIONS);
    assert_eq!(detector.unwatched(), 10);
}

proptest! {
    /// Whatever happens, failures and returns of one side alternate: no failure is told twice.
    #[test]
    fn failures_and_returns_alternate(seconds in prop::collection::vec((0u64..3, 0u64..3, 0u64..2, any::<bool>()), 1..400)) {
        let mut room = Room::new();
        room.pass(10, FINE);
        for (media, signs, other_traffic, due) in seconds {
            // Each second stands for a stretch, so that silences get long enough to matter.
            room.pass(3, Second { media, signs, other_traffic, due });
        }
        let sides: [fn(EventKind) -> Option<bool>; 3] = [
            |kind| match kind { EventKind::VmsSilent { .. } => Some(true), EventKind::VmsBack { .. } => Some(false), _ => None },
            |kind| match kind { EventKind::MediaSilent { .. } => Some(true), EventKind::MediaBack { .. } => Some(false), _ => None },
            |kind| match kind { EventKind::TapSilent { .. } => Some(true), EventKind::TapBack { .. } => Some(false), _ => None },
        ];
        for side in sides {
            let told: Vec<bool> = room.kinds().into_iter().filter_map(side).collect();
            for (n, failed) in told.iter().enumerate() {
                prop_assert_eq!(*failed, n % 2 == 0);
            }
        }
    }
}
