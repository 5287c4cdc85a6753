//! Fragments of IP datagrams, put together without copying their payload.
//!
//! Owns the fragments of datagrams that are not complete yet, as pieces of captured packets; of the bytes themselves only the
//! first [`HEAD_MAX`] of a datagram are kept, for the headers in them. Where fragments overlap, what came first wins. A
//! fragment seen twice (a mirror that copies both directions) is dropped and counted.
//!
//! Bounded in datagrams, in pieces of one datagram and in capture time: a datagram that stays incomplete is given up and
//! counted. The time is short, because a 16-bit identification comes round again within seconds on a fast stream, and
//! a left-over of one datagram must not become a part of another.

use crate::span::{Location, Piece};
use crate::wire::{Fragment, IpPair, Vlans};
use capture::CaptureTime;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::time::Duration;

/// Bytes kept of a datagram's beginning.
pub const HEAD_MAX: usize = 512;
/// The longest an IP datagram can be.
const DATAGRAM_MAX: u32 = 65_535;

/// What a [`Defragmenter`] may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefragLimits {
    /// Incomplete datagrams; the oldest goes first.
    pub datagrams_max: usize,
    /// Pieces of one datagram: 65,535 bytes in the smallest MTU of IPv4 that is met are about 120.
    pub pieces_max: usize,
    /// How long a datagram may stay incomplete, in capture time.
    pub age_max: Duration,
}

impl Default for DefragLimits {
    fn default() -> Self {
        Self { datagrams_max: 1024, pieces_max: 128, age_max: Duration::from_secs(2) }
    }
}

/// What became of the fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefragStats {
    /// Fragments handed in.
    pub fragments: u64,
    /// Datagrams completed.
    pub completed: u64,
    /// Fragments that brought nothing new.
    pub duplicates: u64,
    /// Datagrams given up for their age.
    pub timed_out: u64,
    /// Datagrams given up for lack of room.
    pub crowded_out: u64,
    /// Fragments that were refused: cut by the capture, longer than a datagram, contradicting, or in too many pieces.
    pub refused: u64,
}

/// A datagram put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Its ends.
    pub ip: IpPair,
    /// VLAN tags of its fragments.
    pub vlans: Vlans,
    /// IP protocol.
    pub proto: u8,
    /// Length, transport header included.
    pub len: u32,
    /// The first bytes, at most [`HEAD_MAX`].
    pub head: Vec<u8>,
    /// Where all of its bytes lie, in order.
    pub pieces: SmallVec<[Piece; 8]>,
    /// When its first fragment was captured.
    pub first: CaptureTime,
}

/// A UDP datagram that was fragmented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpDatagram<'a> {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
    /// Bytes of payload.
    pub len: u32,
    /// The first bytes of the payload.
    pub head: &'a [u8],
    /// Where the payload lies, in order.
    pub pieces: SmallVec<[Piece; 8]>,
}

impl Datagram {
    /// Its UDP payload; `None` when it is no UDP or malformed.
    pub fn udp(&self) -> Option<UdpDatagram<'_>> {
        let (header, head) = self.head.split_first_chunk::<8>()?;
        if self.proto != 17 {
            return None;
        }
        let len = match u32::from(u16::from_be_bytes([header[4], header[5]])) {
            0 => self.len,
            len => len,
        };
        if len < 8 || len > self.len {
            return None;
        }
        let len = len - 8;
        let head = &head[..head.len().min(len as usize)];
        Some(UdpDatagram {
            src: u16::from_be_bytes([header[0], header[1]]),
            dst: u16::from_be_bytes([header[2], header[3]]),
            len,
            head,
            pieces: sub_range(&self.pieces, 8, len),
        })
    }
}

/// The pieces of `len` bytes that begin `skip` bytes into `pieces`.
fn sub_range(pieces: &[Piece], mut skip: u32, mut len: u32) -> SmallVec<[Piece; 8]> {
    let mut range = SmallVec::new();
    for piece in pieces {
        let from = skip.min(piece.len);
        skip -= from;
        let take = (piece.len - from).min(len);
        len -= take;
        if take > 0 {
            range.push(piece.at().plus(from).piece(take));
        }
    }
    range
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Key {
    ip: IpPair,
    vlans: Vlans,
    id: u32,
    proto: u8,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Incomplete {
    /// Offset in the datagram and bytes, ascending, not overlapping.
    pieces: Vec<(u32, Piece)>,
    /// Valid where `pieces` cover it.
    #[serde(with = "serde_bytes")]
    head: Vec<u8>,
    /// Known once the last fragment came.
    total: Option<u32>,
    first: CaptureTime,
    /// Tells this datagram from a later one of the same key in the queue of ages.
    serial: u64,
}

/// Puts datagrams together. See the module's text.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Defragmenter {
    limits: DefragLimits,
    incomplete: HashMap<Key, Incomplete>,
    /// Keys by age; completed ones stay until they reach the front.
    ages: VecDeque<(CaptureTime, Key, u64)>,
    serial: u64,
    stats: DefragStats,
}

impl Defragmenter {
    /// An empty one.
    pub fn new(limits: DefragLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// What became of the fragments so far.
    pub fn stats(&self) -> DefragStats {
        self.stats
    }

    /// How many datagrams are incomplete.
    pub fn incomplete(&self) -> usize {
        self.incomplete.len()
    }

    /// Takes a fragment whose payload lies at `at`; gives the datagram that it completes.
    pub fn handle_fragment(
        &mut self,
        now: CaptureTime,
        ip: IpPair,
        vlans: Vlans,
        fragment: &Fragment<'_>,
        at: Location,
    ) -> Option<Datagram> {
        self.stats.fragments += 1;
        self.give_up_old(now);
        let len = fragment.payload_len_on_wire;
        let end = fragment.offset.saturating_add(len);
        let cut = fragment.payload.len() < len as usize;
        if cut || len == 0 || end > DATAGRAM_MAX || (fragment.more && !len.is_multiple_of(8)) {
            self.stats.refused += 1;
            return None;
        }
        let key = Key { ip, vlans, id: fragment.id, proto: fragment.proto };
        if !self.incomplete.contains_key(&key) {
            self.make_room();
            self.serial += 1;
            self.ages.push_back((now, key, self.serial));
        }
        let serial = self.serial;
        let datagram = self.incomplete.entry(key).or_insert_with(|| Incomplete {
            pieces: Vec::new(),
            head: Vec::new(),
            total: None,
            first: now,
            serial,
        });
        match datagram.add(fragment, end, at, self.limits.pieces_max) {
            Added::New => {}
            Added::Nothing => self.stats.duplicates += 1,
            Added::Refused => self.stats.refused += 1,
        }
        if !datagram.complete() {
            return None;
        }
        let done = self.incomplete.remove(&key)?;
        self.stats.completed += 1;
        Some(Datagram {
            ip,
            vlans,
            proto: key.proto,
            len: done.total?,
            head: done.head,
            pieces: done.pieces.into_iter().map(|(_, piece)| piece).collect(),
            first: done.first,
        })
    }

    fn give_up_old(&mut self, now: CaptureTime) {
        while let Some(&(first, key, serial)) = self.ages.front() {
            let age = now.nanos_since(first);
            // A clock that was set back makes old ones look young; they go when it has caught up, or for lack of room.
            let old = age > 0 && age.unsigned_abs() as u128 > self.limits.age_max.as_nanos();
            let gone = self.incomplete.get(&key).is_none_or(|d| d.serial != serial);
            if !old && !gone {
                return;
            }
            self.ages.pop_front();
            if !gone {
                self.incomplete.remove(&key);
                self.stats.timed_out += 1;
            }
        }
    }

    fn make_room(&mut self) {
        // The queue also holds completed datagrams that are not at its front: twice the bound is enough for both.
        while self.incomplete.len() >= self.limits.datagrams_max.max(1)
            || self.ages.len() >= 2 * self.limits.datagrams_max.max(1)
        {
            let Some((_, key, serial)) = self.ages.pop_front() else { return };
            if self.incomplete.get(&key).is_some_and(|d| d.serial == serial) {
                self.incomplete.remove(&key);
                self.stats.crowded_out += 1;
            }
        }
    }
}

enum Added {
    New,
    Nothing,
    Refused,
}

impl Incomplete {
    fn add(&mut self, fragment: &Fragment<'_>, end: u32, at: Location, pieces_max: usize) -> Added {
        if !fragment.more {
            if self.total.is_some_and(|t| t != end) {
                return Added::Refused;
            }
            if self.pieces.last().is_some_and(|(o, p)| o + p.len > end) {
                return Added::Refused;
            }
            self.total = Some(end);
        } else if self.total.is_some_and(|t| end > t) {
            return Added::Refused;
        }
        let mut added = Added::Nothing;
        let mut from = fragment.offset;
        // Walk through the holes that the fragment covers.
        let mut n = self.pieces.partition_point(|(o, p)| o + p.len <= from);
        while from < end {
            let (hole_end, next) = match self.pieces.get(n) {
                Some((o, p)) => (end.min(*o), o + p.len),
                None => (end, end),
            };
            if from < hole_end {
                if self.pieces.len() >= pieces_max {
                    return Added::Refused;
                }
                let skip = from - fragment.offset;
                self.pieces.insert(n, (from, at.plus(skip).piece(hole_end - from)));
                self.keep_head(from, &fragment.payload[skip as usize..(hole_end - fragment.offset) as usize]);
                added = Added::New;
                n += 1;
            }
            from = next.max(hole_end);
            n += usize::from(from < end);
        }
        added
    }

    fn keep_head(&mut self, offset: u32, bytes: &[u8]) {
        let offset = offset as usize;
        let end = (offset + bytes.len()).min(HEAD_MAX);
        if offset >= end {
            return;
        }
        if self.head.len() < end {
            self.head.resize(end, 0);
        }
        self.head[offset..end].copy_from_slice(&bytes[..end - offset]);
    }

    fn complete(&self) -> bool {
        let mut at = 0;
        for (offset, piece) in &self.pieces {
            if *offset != at {
                return false;
            }
            at += piece.len;
        }
        self.total == Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capture::ShardId;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr};

    const PAIR: IpPair = IpPair {
        src: IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)),
        dst: IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2)),
    };

    fn ms(n: i64) -> CaptureTime {
        CaptureTime::from_nanos(n * 1_000_000)
    }

    fn at(record: u64) -> Location {
        Location { shard: ShardId(1), record, entry: record as u32, offset: 34 }
    }

    /// A UDP datagram of `len` payload bytes, and its fragments of `step` bytes.
    /// A fragment: its offset, whether more follow, its bytes in the whole.
    type Cut = (u32, bool, std::ops::Range<usize>);

    fn datagram(len: usize, step: usize) -> (Vec<u8>, Vec<Cut>) {
        let mut bytes = vec![0x12, 0x34, 0x13, 0x88];
        bytes.extend_from_slice(&u16::try_from(len + 8).unwrap().to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend((0..len).map(|n| (n * 7 % 251) as u8));
        let fragments = (0..bytes.len())
            .step_by(step)
            .map(|o| (o as u32, o + step < bytes.len(), o..(o + step).min(bytes.len())))
            .collect();
        (bytes, fragments)
    }

    fn fragment<'a>(id: u32, bytes: &'a [u8], f: &(u32, bool, std::ops::Range<usize>)) -> Fragment<'a> {
        let payload = &bytes[f.2.clone()];
        Fragment { id, offset: f.0, more: f.1, proto: 17, payload, payload_len_on_wire: payload.len() as u32 }
    }

    /// Reads a datagram back from "records": record n holds fragment n's bytes from offset 34 on.
    fn read(pieces: &[Piece], bytes: &[u8], fragments: &[(u32, bool, std::ops::Range<usize>)]) -> Vec<u8> {
        let piece = |p: &Piece| {
            let f = &fragments[p.record as usize];
            bytes[f.2.start + p.offset as usize - 34..][..p.len as usize].to_vec()
        };
        pieces.iter().flat_map(piece).collect()
    }

    #[test]
    fn in_order() {
        let (bytes, fragments) = datagram(10_000, 1480);
        let mut d = Defragmenter::new(DefragLimits::default());
        let mut done = None;
        for (n, f) in fragments.iter().enumerate() {
            assert!(done.is_none());
            done = d.handle_fragment(
                ms(n as i64),
                PAIR,
                Vlans::default(),
                &fragment(7, &bytes, f),
                at(n as u64),
            );
        }
        let done = done.unwrap();
        let udp = done.udp().unwrap();
        assert_eq!((udp.src, udp.dst, udp.len, udp.head), (0x1234, 5000, 10_000, &bytes[8..HEAD_MAX]));
        assert_eq!(read(&udp.pieces, &bytes, &fragments), &bytes[8..]);
        assert_eq!(d.incomplete(), 0);
    }

    #[test]
    fn a_left_over_never_joins_a_later_datagram_of_the_same_id() {
        let (bytes, fragments) = datagram(2_000, 1480);
        let mut d = Defragmenter::new(DefragLimits::default());
        let mut give = |t, n: usize| {
            d.handle_fragment(
                ms(t),
                PAIR,
                Vlans::default(),
                &fragment(7, &bytes, &fragments[n]),
                at(n as u64),
            )
        };
        assert!(give(0, 1).is_none());
        assert!(give(2_500, 0).is_none());
        assert!(give(2_501, 1).is_some());
        assert_eq!(d.stats().timed_out, 1);
    }

    #[test]
    fn bounded_in_datagrams() {
        let (bytes, fragments) = datagram(2_000, 1480);
        let limits = DefragLimits { datagrams_max: 10, ..DefragLimits::default() };
        let mut d = Defragmenter::new(limits);
        for id in 0..1000 {
            d.handle_fragment(ms(0), PAIR, Vlans::default(), &fragment(id, &bytes, &fragments[0]), at(0));
            assert!(d.incomplete() <= 10 && d.ages.len() <= 20);
        }
        assert_eq!(d.stats().crowded_out, 990);
    }

    #[test]
    fn a_total_that_contradicts_is_refused() {
        let (bytes, fragments) = datagram(4_000, 1480);
        let mut d = Defragmenter::new(DefragLimits::default());
        let mut give = |f: Fragment<'_>| d.handle_fragment(ms(0), PAIR, Vlans::default(), &f, at(0));
        give(fragment(7, &bytes, &fragments[1]));
        give(Fragment { more: false, ..fragment(7, &bytes, &fragments[0]) });
        give(Fragment { offset: 65_528, ..fragment(7, &bytes, &fragments[2]) });
        assert_eq!(d.stats().refused, 2);
    }

    proptest! {
        /// Any order, any duplicates, fragments of two sizes that overlap: the datagram comes out once, whole.
        #[test]
        fn any_order_duplicates_and_overlaps(
            len in 1usize..9_000,
            steps in (1usize..200, 1usize..200),
            order in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..60),
        ) {
            let (bytes, mut fragments) = datagram(len, 8 * steps.0.max(len / 8 / 60 + 1));
            let (_, other) = datagram(len, 8 * steps.1.max(len / 8 / 60 + 1));
            let (first, _) = (fragments.len(), fragments.extend(other));
            let mut d = Defragmenter::new(DefragLimits::default());
            let mut done = Vec::new();
            let picks = order.iter().map(|(_, i)| i.index(fragments.len())).chain(0..first);
            for n in picks {
                let f = fragment(7, &bytes, &fragments[n]);
                done.extend(d.handle_fragment(ms(1), PAIR, Vlans::default(), &f, at(n as u64)));
            }
            prop_assert!(!done.is_empty());
            for datagram in done {
                prop_assert_eq!(read(&datagram.pieces, &bytes, &fragments), &bytes[..]);
                prop_assert_eq!(&datagram.head[..], &bytes[..bytes.len().min(HEAD_MAX)]);
                prop_assert_eq!(datagram.udp().unwrap().len as usize, len);
            }
        }
    }
}
