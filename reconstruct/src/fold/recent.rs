//! The captured packets of one direction of a TCP connection that frames may still have pieces in.

use crate::index::Carrier;
use crate::span::Piece;
use capture::{ShardId, TapId};
use serde::ser::Serializer;
use serde::{Deserialize, Deserializer, Serialize};
use smallvec::SmallVec;

/// A captured packet with payload.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RecentPacket {
    pub tap: TapId,
    pub shard: ShardId,
    /// Its number in its flow and shard.
    pub entry: u32,
    pub carrier: Carrier,
}

/// The last ones, oldest first. Carriers stand by themselves, so that those of a frame can be lent as they lie.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    places: Vec<(TapId, ShardId, u32)>,
    carriers: Vec<Carrier>,
    /// Those before are forgotten.
    from: usize,
}

impl Recent {
    /// One more; of those before stay the last `kept`.
    #[inline]
    pub fn push(&mut self, packet: RecentPacket, kept: usize) {
        self.from = self.from.max(self.places.len().saturating_sub(kept));
        // Rather than grow, as long as that does not move the same ones again and again.
        if self.places.len() == self.places.capacity() && self.from * 2 >= self.places.len() {
            self.places.drain(..self.from);
            self.carriers.drain(..self.from);
            self.from = 0;
        }
        self.places.push((packet.tap, packet.shard, packet.entry));
        self.carriers.push(packet.carrier);
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = RecentPacket> + ExactSizeIterator {
        let packet = |(&(tap, shard, entry), &carrier): (&(TapId, ShardId, u32), &Carrier)| RecentPacket {
            tap,
            shard,
            entry,
            carrier,
        };
        self.places[self.from..].iter().zip(&self.carriers[self.from..]).map(packet)
    }

    /// Mostly it is one of the last.
    #[inline]
    fn find(&self, piece: &Piece) -> Option<usize> {
        let there = &self.places[self.from..];
        there.iter().rposition(|p| p.2 == piece.entry && p.1 == piece.shard).map(|n| self.from + n)
    }

    /// Whether the pieces lie in the packets from `first` on, one behind the other.
    #[inline]
    fn lie_from(&self, first: usize, pieces: &[Piece]) -> bool {
        let there = &self.places[first..];
        if there.len() < pieces.len() {
            return false;
        }
        for (place, piece) in there.iter().zip(pieces) {
            if place.2 != piece.entry || place.1 != piece.shard {
                return false;
            }
        }
        true
    }

    /// The captured packets of a frame's pieces, up to the first that is not known any more. They lie one behind the other unless packets came
    /// in another order; then they are put into `gathered`. `tap` becomes that of the last.
    #[inline]
    pub fn carriers<'a>(
        &'a self,
        pieces: &[Piece],
        gathered: &'a mut SmallVec<[Carrier; 2]>,
        tap: &mut TapId,
    ) -> &'a [Carrier] {
        // As good as always the last one lies in the newest packet.
        let suffix = self.places.len().checked_sub(pieces.len()).filter(|first| *first >= self.from);
        if let Some(first) = suffix
            && self.lie_from(first, pieces)
        {
            *tap = self.places.last().filter(|_| !pieces.is_empty()).map_or(*tap, |p| p.0);
            return &self.carriers[first..];
        }
        let Some(first) = pieces.first().and_then(|piece| self.find(piece)) else { return &[] };
        if self.lie_from(first, pieces) {
            let end = first + pieces.len();
            *tap = self.places[end - 1].0;
            return &self.carriers[first..end];
        }
        for found in pieces.iter().map_while(|piece| self.find(piece)) {
            *tap = self.places[found].0;
            gathered.push(self.carriers[found]);
        }
        gathered
    }
}

impl Serialize for Recent {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Recent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let packets = Vec::<RecentPacket>::deserialize(from)?;
        Ok(Self {
            places: packets.iter().map(|p| (p.tap, p.shard, p.entry)).collect(),
            carriers: packets.iter().map(|p| p.carrier).collect(),
            from: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::HeaderFields;

    fn packet(entry: u32) -> RecentPacket {
        let carrier = Carrier { payload_offset: entry, payload_captured: 1, header: HeaderFields::None };
        RecentPacket { tap: TapId(entry % 2), shard: ShardId(7), entry, carrier }
    }

    fn carriers(recent: &Recent, entries: &[u32]) -> (Vec<u32>, TapId) {
        let piece = |&entry: &u32| Piece { shard: ShardId(7), record: 0, entry, offset: 0, len: 1 };
        let pieces: Vec<Piece> = entries.iter().map(piece).collect();
        let (mut gathered, mut tap) = (SmallVec::new(), TapId(9));
        let carriers = recent.carriers(&pieces, &mut gathered, &mut tap);
        (carriers.iter().map(|c| c.payload_offset).collect(), tap)
    }

    #[test]
    fn the_last_ones_are_known_in_any_order() {
        let mut recent = Recent::default();
        assert_eq!(carriers(&recent, &[0]), (vec![], TapId(9)));
        for entry in 0..1000 {
            recent.push(packet(entry), 5);
            assert!(recent.iter().len() == 6.min(entry as usize + 1) && recent.places.capacity() <= 16);
            assert_eq!(recent.iter().next_back().map(|p| p.entry), Some(entry));
        }
        assert_eq!(carriers(&recent, &[996, 997, 998]), (vec![996, 997, 998], TapId(0)));
        assert_eq!(carriers(&recent, &[999, 997, 998]), (vec![999, 997, 998], TapId(0)));
        assert_eq!(carriers(&recent, &[998, 999, 1000, 997]), (vec![998, 999], TapId(1)));
        assert_eq!(carriers(&recent, &[993, 994]), (vec![], TapId(9)), "only the last six are kept");
        assert_eq!(carriers(&recent, &[]), (vec![], TapId(9)));
        let saved = postcard::to_stdvec(&recent).unwrap();
        let back: Recent = postcard::from_bytes(&saved).unwrap();
        assert!(back.iter().map(|p| p.entry).eq(994..1000));
        assert_eq!(carriers(&back, &[996, 997]), carriers(&recent, &[996, 997]));
    }
}
