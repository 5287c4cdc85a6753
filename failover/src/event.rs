//! What the detector says.

use capture::CaptureTime;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The session that an event is about, as the recorder numbers its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SessionKey(pub u32);

/// Something failed, or came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it was decided, not when it happened: see the kind for that.
    pub at: CaptureTime,
    /// The session, or `None` when it is about the tap.
    pub session: Option<SessionKey>,
    /// The camera's name, empty when it is about the tap.
    pub camera: String,
    /// The VMS's address, empty when it is about the tap.
    pub vms: String,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Media kept coming, but the VMS gave no sign of life: no TCP acknowledgement, no RTCP report, no request.
    VmsSilent {
        /// Its last sign.
        since: CaptureTime,
    },
    /// The VMS shows signs of life again, steadily.
    VmsBack {
        /// How long it was silent.
        after: Duration,
    },
    /// The session is open, but its media stopped.
    MediaSilent {
        /// The last media packet.
        since: CaptureTime,
    },
    /// The media flows again, steadily.
    MediaBack {
        /// How long it was silent.
        after: Duration,
    },
    /// Nothing at all comes from the mirror port, which says nothing about cameras or VMSs: no session is judged.
    TapSilent {
        /// The last packet of any kind.
        since: CaptureTime,
    },
    /// The mirror port brings packets again.
    TapBack {
        /// How long it was silent.
        after: Duration,
    },
}

impl EventKind {
    /// True for what an operator must look at, false for what came back.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::VmsSilent { .. } | Self::MediaSilent { .. } | Self::TapSilent { .. })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let for_seconds = |since: CaptureTime| self.at.nanos_since(since) / 1_000_000_000;
        let (camera, vms) = (&self.camera, &self.vms);
        match self.kind {
            EventKind::VmsSilent { since } => {
                write!(f, "VMS {vms} has shown no sign of life towards {camera} for {} s", for_seconds(since))
            }
            EventKind::VmsBack { after } => {
                write!(f, "VMS {vms} is back at {camera} after {} s", after.as_secs())
            }
            EventKind::MediaSilent { since } => {
                write!(f, "{camera} has sent no media to {vms} for {} s", for_seconds(since))
            }
            EventKind::MediaBack { after } => {
                write!(f, "{camera} sends to {vms} again after {} s", after.as_secs())
            }
            EventKind::TapSilent { since } => {
                write!(f, "nothing has come from the mirror port for {} s", for_seconds(since))
            }
            EventKind::TapBack { after } => {
                write!(f, "the mirror port is back after {} s", after.as_secs())
            }
        }
    }
}
