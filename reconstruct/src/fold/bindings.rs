//! Which datagrams belong to which track, as the dialogues announced it.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::net::{IpAddr, SocketAddr};

/// Announcements for one receiving port that are kept; a later one wins over an earlier one.
const PER_PORT_MAX: usize = 8;

/// An announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Where it comes from; `None` for anywhere.
    pub sender: Option<IpAddr>,
    /// The sending port, if announced. Cameras send from others than they say.
    pub sender_port: Option<u16>,
    /// The track.
    pub track: u32,
    /// RTCP rather than RTP.
    pub rtcp: bool,
    /// From the side that sends media.
    pub from_camera: bool,
}

/// All announcements, by receiving address.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bindings {
    by_receiver: HashMap<SocketAddr, SmallVec<[Binding; 1]>>,
    /// Changes with every announcement: whoever looked before has to look again.
    version: u32,
}

impl Bindings {
    /// See [`Bindings`].
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Datagrams to `receiver` belong to a track.
    pub fn add(&mut self, receiver: SocketAddr, binding: Binding) {
        let of_port = self.by_receiver.entry(receiver).or_default();
        of_port.retain(|b| *b != binding);
        if of_port.len() >= PER_PORT_MAX {
            of_port.remove(0);
        }
        of_port.push(binding);
        self.version = self.version.wrapping_add(1);
    }

    /// The track of datagrams from `sender` to `receiver`.
    pub fn find(&self, sender: SocketAddr, receiver: SocketAddr) -> Option<Binding> {
        let of_port = self.by_receiver.get(&receiver)?;
        let fits = |b: &&Binding| b.sender.is_none_or(|s| s == sender.ip());
        let exact = |b: &&Binding| fits(b) && b.sender_port == Some(sender.port());
        of_port.iter().rev().find(exact).or_else(|| of_port.iter().rev().find(fits)).copied()
    }

    /// The track of datagrams from an address that nobody announced, by the port that they come from: cameras with several addresses
    /// answer on one and send from another.
    pub fn find_from_elsewhere(&self, sender: SocketAddr, receiver: SocketAddr) -> Option<Binding> {
        let fits = |b: &&Binding| b.sender.is_some() && b.sender_port == Some(sender.port()) && b.from_camera;
        self.by_receiver.get(&receiver)?.iter().rev().find(fits).copied()
    }

    /// A track is gone.
    pub fn remove_track(&mut self, track: u32) {
        self.by_receiver.retain(|_, of_port| {
            of_port.retain(|b| b.track != track);
            !of_port.is_empty()
        });
        self.version = self.version.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_fits() {
        let at = |s: &str| s.parse::<SocketAddr>().unwrap();
        let (camera, other, vms) = (at("198.18.0.1:6970"), at("198.18.0.2:6970"), at("198.18.0.9:5000"));
        let mut all = Bindings::default();
        let b = |track, from: SocketAddr, port| Binding {
            sender: Some(from.ip()),
            sender_port: port,
            track,
            rtcp: false,
            from_camera: true,
        };
        all.add(vms, b(1, camera, None));
        all.add(vms, b(2, other, None));
        assert_eq!(all.find(camera, vms).unwrap().track, 1);
        all.add(vms, b(3, camera, None));
        assert_eq!(all.find(camera, vms).unwrap().track, 3);
        all.add(vms, b(4, camera, Some(6970)));
        all.add(vms, b(5, camera, Some(7000)));
        assert_eq!(all.find(camera, vms).unwrap().track, 4);
        let version = all.version();
        all.remove_track(4);
        assert_ne!(version, all.version());
        assert_eq!(all.find(camera, vms).unwrap().track, 5);
        assert_eq!(all.find(vms, camera), None);
        let elsewhere = at("198.18.0.3:7000");
        assert_eq!(all.find(elsewhere, vms), None);
        assert_eq!(all.find_from_elsewhere(elsewhere, vms).unwrap().track, 5);
        assert_eq!(all.find_from_elsewhere(at("198.18.0.3:7002"), vms), None);
    }
}
