//! Messages out of one direction of a connection.
//!
//! Owns the bytes between two messages of one direction, and the way back after garbage or a hole: whatever does not begin a
//! message is skipped and counted up to the next place where one can begin.
//! Refuses: `$`-framed packets, which the interleaved framing takes out before (they would be skipped here as garbage).
//! Costs: at most [`MAX_BUFFERED`] bytes for a direction; a search for the next beginning is one comparison a byte.

use serde::{Deserialize, Serialize};

use super::message::{
    Beginning, MAX_BODY, MAX_HEAD, Message, Parsed, beginning, hopeless, leading_blank, parse,
};

/// The most that waits for the rest of a message.
pub const MAX_BUFFERED: usize = MAX_HEAD + MAX_BODY;

/// Reads one direction's bytes as they arrive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageReader {
    /// Begins where a message begins or may begin; blank lines may stand before it.
    #[serde(with = "serde_bytes")]
    buffer: Vec<u8>,
    skipped_bytes: u64,
    too_large: u64,
    holes: u64,
}

impl MessageReader {
    /// A reader at the beginning of a connection, or anywhere in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes in order. Drain [`poll`](Self::poll) after each call.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes are missing here: a message that was being read is given up.
    pub fn hole(&mut self) {
        self.holes += 1;
        self.skipped_bytes += visible(&self.buffer);
        self.buffer.clear();
    }

    /// The next whole message; `None` until more bytes come.
    pub fn poll(&mut self) -> Option<Message> {
        let mut at = 0;
        let found = loop {
            at += leading_blank(&self.buffer[at..]);
            match parse(&self.buffer[at..]) {
                Parsed::Message(message) => {
                    at += message.len();
                    break Some(message);
                }
                Parsed::Incomplete => break None,
                Parsed::TooLarge => self.too_large += 1,
                Parsed::NotRtsp => {}
            }
            let next = next_beginning(&self.buffer, at + hopeless(&self.buffer[at..]));
            self.skipped_bytes += visible(&self.buffer[at..next]);
            at = next;
        };
        self.buffer.drain(..at);
        found
    }

    /// Bytes that belonged to no message, white space aside (it may stand between messages).
    pub fn skipped_bytes(&self) -> u64 {
        self.skipped_bytes
    }

    /// Messages that exceeded [`MAX_HEAD`] or [`MAX_BODY`].
    pub fn too_large(&self) -> u64 {
        self.too_large
    }

    /// How often bytes were missing.
    pub fn holes(&self) -> u64 {
        self.holes
    }

    /// Whether nothing waits for its rest.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

fn visible(skipped: &[u8]) -> u64 {
    skipped.iter().filter(|b| !matches!(b, b'\r' | b'\n' | b' ' | b'\t')).count() as u64
}

/// The first place at or after `from` where a message begins or may begin; the end when there is none.
fn next_beginning(buffer: &[u8], from: usize) -> usize {
    (from..buffer.len()).find(|&i| beginning(&buffer[i..]) != Beginning::No).unwrap_or(buffer.len().max(from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIALOGUE: &[u8] = b"OPTIONS rtsp://h/ RTSP/1.0\r\nCSeq: 1\r\n\r\n\r\n\
        RTSP/1.0 200 OK\nCSeq : 2\nContent-Length: 12\n\nv=0\r\nRTSP/1.\
        garbage RTSP/ PLAYER $\x00\x00\x01z\
        GET_PARAMETER /x RTSP/1.0\r\nSession: \xff1\r\n\r\n\
        RTSP/1.0 nonsense\r\n\r\nRTSP/1.0 404\r\n\r\n";

    fn read(pieces: &[&[u8]]) -> (Vec<Message>, u64) {
        let mut reader = MessageReader::new();
        let mut messages = Vec::new();
        for piece in pieces {
            reader.push(piece);
            while let Some(m) = reader.poll() {
                messages.push(m);
            }
        }
        (messages, reader.skipped_bytes())
    }

    #[test]
    fn same_messages_at_every_split_point() {
        let whole = read(&[DIALOGUE]);
        assert_eq!(whole.0.len(), 4);
        assert_eq!(whole.0[1].body(), b"v=0\r\nRTSP/1.");
        assert_eq!(whole.0[3].status(), Some(404));
        for i in 0..=DIALOGUE.len() {
            assert_eq!(read(&[&DIALOGUE[..i], &DIALOGUE[i..]]), whole, "split at {i}");
        }
        let single: Vec<&[u8]> = DIALOGUE.chunks(1).collect();
        assert_eq!(read(&single), whole);
    }

    #[test]
    fn goes_on_after_a_hole() {
        let mut reader = MessageReader::new();
        reader.push(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Le");
        assert_eq!(reader.poll(), None);
        reader.hole();
        reader.push(b"lf a header\r\n\r\nRTSP/1.0 200 OK\r\nCSeq: 2\r\n\r\n");
        assert_eq!(reader.poll().unwrap().cseq().unwrap().0, 2);
        assert_eq!((reader.poll(), reader.holes()), (None, 1));
        assert!(reader.skipped_bytes() > 30);
    }

    #[test]
    fn garbage_does_not_pile_up() {
        let mut reader = MessageReader::new();
        for _ in 0..1000 {
            reader.push(&[b'P'; 1400]);
            assert_eq!(reader.poll(), None);
            assert!(reader.buffer.len() < 16, "{}", reader.buffer.len());
        }
        let endless = vec![b'x'; 1000];
        reader.push(b"RTSP/1.0 200 OK\r\nX: ");
        for _ in 0..1000 {
            reader.push(&endless);
            assert_eq!(reader.poll(), None);
            assert!(reader.buffer.len() <= MAX_BUFFERED);
        }
        assert_eq!(reader.too_large(), 1);
    }

    #[test]
    fn hostile_garbage_costs_its_length() {
        // Each of these looks like a message's beginning at every line; quadratic work would take minutes.
        for line in ["PLAY rtsp ", "PLAY rtsp\n", "PLAY rtsp RTSP/1.0\n", "PLAY x RTSP/", "OPTIONS * "] {
            for end in ["", "\0", "\n\n"] {
                let garbage =
                    [line.repeat(MAX_HEAD / line.len()).as_bytes(), end.as_bytes()].concat().repeat(2);
                let began = std::time::Instant::now();
                read(&garbage.chunks(1400).collect::<Vec<_>>());
                assert!(began.elapsed().as_secs() < 20, "{line:?} {end:?}: {:?}", began.elapsed());
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_any_splits(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in proptest::collection::vec(0usize..600, 0..6)) {
            let mut cuts: Vec<usize> = at.into_iter().map(|i| i.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(read(&pieces), read(&[&bytes]));
        }

        #[test]
        fn mutated_dialogue_any_splits(flips in proptest::collection::vec((0usize..DIALOGUE.len(), any::<u8>()), 0..4), cut in 0usize..DIALOGUE.len()) {
            let mut bytes = DIALOGUE.to_vec();
            for (i, b) in flips {
                bytes[i] = b;
            }
            prop_assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]), read(&[&bytes]));
        }
    }
}
