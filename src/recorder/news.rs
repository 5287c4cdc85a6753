//! What happens in the recorded network: new streams, sessions that end, VMSs and cameras that fail.

use crate::console::Console;
use crate::status::EventStatus;
use crate::times;
use capture::CaptureTime;
use failover::{Detector, Observation, SessionKey, Thresholds};
use reconstruct::fold::{FoldEvent, Observation as Sample};
use reconstruct::indexer::LiveIndexer;
use std::collections::{BTreeSet, VecDeque};

/// Events that the status shows; older ones are in the log alone.
const EVENTS_KEPT: usize = 50;

/// Failure detection over the indexer's samples.
pub struct News {
    detector: Detector,
    /// Sessions of the last sample, to notice those that ended.
    sessions: BTreeSet<SessionKey>,
    events: VecDeque<EventStatus>,
    streams: usize,
}

impl News {
    /// With the streams that were known before.
    pub fn new(streams: usize) -> Self {
        Self {
            detector: Detector::new(Thresholds::default()),
            sessions: BTreeSet::new(),
            events: VecDeque::new(),
            streams,
        }
    }

    /// Takes in a second: all packets that the taps have received so far, and what the indexer saw.
    pub fn round(&mut self, now: CaptureTime, tap_packets: u64, indexer: &LiveIndexer, console: &Console) {
        for event in indexer.take_events() {
            if let FoldEvent::StreamFound { name, .. } = event {
                self.streams += 1;
                console.say(format!("found stream {name}"));
            }
        }
        self.detector.handle_tap(now, tap_packets);
        // While the recording rests in the index there is nothing to be judged, and nothing ends.
        if let Some(samples) = indexer.observations() {
            self.judge(now, samples);
        }
        while let Some(event) = self.detector.poll_event() {
            let failure = event.kind.is_failure();
            console.say(format!(
                "{} {}: {event}",
                times::short(event.at),
                if failure { "FAILURE" } else { "recovered" }
            ));
            if self.events.len() >= EVENTS_KEPT {
                self.events.pop_front();
            }
            self.events.push_back(EventStatus {
                at: times::short(event.at),
                failure,
                text: event.to_string(),
            });
        }
    }

    fn judge(&mut self, now: CaptureTime, samples: Vec<Sample>) {
        let mut seen = BTreeSet::new();
        for sample in samples {
            let session = SessionKey(sample.session.0);
            seen.insert(session);
            let client = sample.client.to_string();
            let observation = Observation {
                session,
                camera: &sample.camera,
                vms: &client,
                media_packets: sample.media_packets,
                vms_signs: sample.client_signs,
                media_due: sample.media_due,
            };
            self.detector.handle_observation(now, observation);
        }
        for ended in self.sessions.difference(&seen) {
            self.detector.handle_end(*ended);
        }
        self.sessions = seen;
    }

    /// The latest events, oldest first.
    pub fn events(&self) -> Vec<EventStatus> {
        self.events.iter().cloned().collect()
    }

    /// Streams known.
    pub fn streams(&self) -> usize {
        self.streams
    }

    /// Sessions watched, and those of them that stand failed.
    pub fn watched(&self) -> (usize, usize) {
        (self.detector.watched(), self.detector.failed())
    }
}
