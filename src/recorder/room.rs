//! What the disk has room for, and what is told of it: that the oldest footage goes as planned is news, that it goes because something else fills the disk
//! is trouble.

use crate::size::ByteSize;
use std::fmt;

/// What the disk has room for besides what stays free.
#[derive(Debug, Default)]
pub struct Room {
    /// The most footage that was held since room was made the first time, or since it was told that it became less.
    most: Option<u64>,
}

/// What is to be told when footage went because the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// It is the first time: from here on the oldest footage goes.
    First {
        /// Bytes of footage held.
        held: u64,
        /// Bytes that stay free.
        min_free: u64,
    },
    /// There is room for less and less footage: others fill the disk.
    Squeezed {
        /// Bytes of footage held.
        held: u64,
        /// Bytes held before.
        before: u64,
    },
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::First { held, min_free } => write!(
                f,
                "the disk is full but for the {} that stay free (--min-free): from here on the oldest footage makes room for the newest; {} are held",
                ByteSize(min_free),
                ByteSize(held)
            ),
            Self::Squeezed { held, before } => write!(
                f,
                "something else fills this disk: room is left for {} of footage where there were {}, and the oldest goes on being deleted; make room",
                ByteSize(held),
                ByteSize(before)
            ),
        }
    }
}

impl Room {
    /// Shards went because too little was free; `held` bytes are left. `slack`: by so much it goes up and down.
    pub fn made(&mut self, held: u64, slack: u64, min_free: u64) -> Option<Full> {
        let Some(before) = self.most else {
            self.most = Some(held);
            return Some(Full::First { held, min_free });
        };
        if held + slack.min(before / 4) < before - before / 8 {
            self.most = Some(held);
            return Some(Full::Squeezed { held, before });
        }
        self.most = Some(before.max(held));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_others_fill_the_disk_is_told_and_told_again_as_it_gets_worse() {
        let mut room = Room::default();
        let mut made = |held| room.made(held, 100, 50);
        assert_eq!(made(1000), Some(Full::First { held: 1000, min_free: 50 }));
        // As shards come and go.
        assert_eq!([made(900), made(1000), made(800), made(1040)], [None; 4]);
        assert_eq!(made(800), Some(Full::Squeezed { held: 800, before: 1040 }));
        assert_eq!([made(780), made(700)], [None; 2]);
        assert_eq!(made(590), Some(Full::Squeezed { held: 590, before: 800 }));
        assert_eq!([made(0), made(0)], [Some(Full::Squeezed { held: 0, before: 590 }), None]);
    }
}
