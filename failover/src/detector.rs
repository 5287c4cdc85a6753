//! The detector: observations of all sessions in, events out.

use crate::event::{Event, EventKind, SessionKey};
use crate::watch::{Patience, Verdict, Watch};
use capture::CaptureTime;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Sessions that are watched at once; more are counted in [`Detector::unwatched`] and not judged.
pub const MAX_SESSIONS: usize = 16_384;
/// Events that wait to be fetched; when nobody does, the oldest are dropped and counted in [`Detector::events_lost`].
pub const MAX_EVENTS: usize = 4_096;

/// How patient the detector is.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// A VMS is not called silent before this; later if it is usually quiet for longer.
    pub vms_silent: Duration,
    /// Media is not called silent before this.
    pub media_silent: Duration,
    /// The mirror port is not called silent before this.
    pub tap_silent: Duration,
    /// A return must last this long.
    pub back_after: Duration,
}

impl Default for Thresholds {
    /// Five seconds are more than any TCP VMS takes to acknowledge, and short enough to take over within one session
    /// time-out.
    fn default() -> Self {
        Self {
            vms_silent: Duration::from_secs(5),
            media_silent: Duration::from_secs(5),
            tap_silent: Duration::from_secs(3),
            back_after: Duration::from_secs(2),
        }
    }
}

/// One session as the recorder's counters have it, sampled about once a second.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The session.
    pub session: SessionKey,
    /// The camera's name.
    pub camera: &'a str,
    /// The VMS's address.
    pub vms: &'a str,
    /// Media packets since the session began.
    pub media_packets: u64,
    /// Signs of life of the VMS since the session began: acknowledgements that advanced, RTCP reports, requests.
    pub vms_signs: u64,
    /// False while the session is paused or not yet playing.
    pub media_due: bool,
}

#[derive(Clone, Debug)]
struct Watched {
    camera: String,
    vms: String,
    media_packets: u64,
    vms_signs: u64,
    media: Watch,
    vms_watch: Watch,
    /// Media came after the VMS's last sign: from the first such packet on, its silence counts.
    unanswered: bool,
}

/// Decides which sessions failed.
#[derive(Debug)]
pub struct Detector {
    thresholds: Thresholds,
    sessions: BTreeMap<SessionKey, Watched>,
    tap: Option<(u64, Watch)>,
    events: VecDeque<Event>,
    unwatched: u64,
    events_lost: u64,
}

impl Detector {
    /// With nothing observed yet.
    pub fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            sessions: BTreeMap::new(),
            tap: None,
            events: VecDeque::new(),
            unwatched: 0,
            events_lost: 0,
        }
    }

    /// All packets that the taps have received so far. Give it before the sessions of the same moment.
    pub fn handle_tap(&mut self, now: CaptureTime, packets: u64) {
        let patience = patience(self.thresholds.tap_silent, &self.thresholds);
        let (before, watch) = self.tap.get_or_insert_with(|| (0, Watch::new(now)));
        let advanced = packets > *before;
        *before = packets;
        let verdict = if advanced { watch.sign(now, &patience) } else { watch.silence(now, &patience) };
        let kind = match verdict {
            Some(Verdict::Failed { since }) => EventKind::TapSilent { since },
            Some(Verdict::Back { after }) => EventKind::TapBack { after },
            None => return,
        };
        self.push(Event { at: now, session: None, camera: String::new(), vms: String::new(), kind });
    }

    /// One session as it stands at `now`.
    pub fn handle_observation(&mut self, now: CaptureTime, seen: Observation<'_>) {
        if !self.sessions.contains_key(&seen.session) && self.sessions.len() >= MAX_SESSIONS {
            self.unwatched += 1;
            return;
        }
        let tap_silent = self.tap.as_ref().is_some_and(|(_, watch)| watch.has_failed());
        let media_patience = patience(self.thresholds.media_silent, &self.thresholds);
        let vms_patience = patience(self.thresholds.vms_silent, &self.thresholds);
        let watched = self.sessions.entry(seen.session).or_insert_with(|| Watched::new(now, &seen));
        watched.rename(&seen);
        let media_advanced = seen.media_packets > watched.media_packets;
        let vms_advanced = seen.vms_signs > watched.vms_signs;
        watched.media_packets = seen.media_packets;
        watched.vms_signs = seen.vms_signs;

        let media = match media_advanced {
            true => watched.media.sign(now, &media_patience),
            false if tap_silent || !seen.media_due => {
                watched.media.excuse(now);
                None
            }
            false => watched.media.silence(now, &media_patience),
        };
        let vms = watched.judge_vms(now, media_advanced, vms_advanced, tap_silent, &vms_patience);
        let (camera, vms_name) = (watched.camera.clone(), watched.vms.clone());
        for kind in [media.map(media_event), vms.map(vms_event)].into_iter().flatten() {
            let session = Some(seen.session);
            self.push(Event { at: now, session, camera: camera.clone(), vms: vms_name.clone(), kind });
        }
    }

    /// The session was torn down or closed as it should be: that is no failure.
    pub fn handle_end(&mut self, session: SessionKey) {
        self.sessions.remove(&session);
    }

    /// The next event; call until there is none.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Sessions that stand failed at this moment.
    pub fn failed(&self) -> usize {
        self.sessions.values().filter(|w| w.media.has_failed() || w.vms_watch.has_failed()).count()
    }

    /// Sessions being watched.
    pub fn watched(&self) -> usize {
        self.sessions.len()
    }

    /// Observations that were not judged because [`MAX_SESSIONS`] are watched already.
    pub fn unwatched(&self) -> u64 {
        self.unwatched
    }

    /// Events that nobody fetched in time.
    pub fn events_lost(&self) -> u64 {
        self.events_lost
    }

    fn push(&mut self, event: Event) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
            self.events_lost += 1;
        }
        self.events.push_back(event);
    }
}

impl Watched {
    fn new(now: CaptureTime, seen: &Observation<'_>) -> Self {
        Self {
            camera: seen.camera.to_owned(),
            vms: seen.vms.to_owned(),
            media_packets: seen.media_packets,
            vms_signs: seen.vms_signs,
            media: Watch::new(now),
            vms_watch: Watch::new(now),
            unanswered: false,
        }
    }

    /// A camera can be given a name at any time.
    fn rename(&mut self, seen: &Observation<'_>) {
        if self.camera != seen.camera {
            seen.camera.clone_into(&mut self.camera);
        }
        if self.vms != seen.vms {
            seen.vms.clone_into(&mut self.vms);
        }
    }

    /// A VMS has nothing to acknowledge when nothing comes, so its silence is measured in media that went unanswered.
    fn judge_vms(
        &mut self,
        now: CaptureTime,
        media_advanced: bool,
        vms_advanced: bool,
        tap_silent: bool,
        patience: &Patience,
    ) -> Option<Verdict> {
        if vms_advanced || tap_silent {
            self.unanswered = false;
        }
        match (vms_advanced, media_advanced) {
            (true, _) => self.vms_watch.sign(now, patience),
            (false, true) if !self.unanswered => {
                self.unanswered = true;
                self.vms_watch.excuse(now);
                None
            }
            (false, true) => self.vms_watch.silence(now, patience),
            (false, false) => None,
        }
    }
}

fn patience(silent_min: Duration, thresholds: &Thresholds) -> Patience {
    Patience {
        silent_min,
        // One and a half RTSP session time-outs of the usual 60 s: nothing healthy is quiet for longer.
        silent_max: Duration::from_secs(90).max(silent_min),
        pauses: 3,
        back_after: thresholds.back_after,
        learn_signs: 3,
    }
}

fn media_event(verdict: Verdict) -> EventKind {
    match verdict {
        Verdict::Failed { since } => EventKind::MediaSilent { since },
        Verdict::Back { after } => EventKind::MediaBack { after },
    }
}

fn vms_event(verdict: Verdict) -> EventKind {
    match verdict {
        Verdict::Failed { since } => EventKind::VmsSilent { since },
        Verdict::Back { after } => EventKind::VmsBack { after },
    }
}
