//! The writing half of an RTSP connection, shared by its answers and its sessions' players.
//!
//! Owns that messages stay whole: who takes turns writes a whole answer or whole interleaved frames (RFC 2326, section 10.12). What
//! somebody began and did not finish (its client stalled, its session ended) is the last that goes out: the client would
//! take whatever followed for the rest of it. Such a connection can only be closed.

use std::io::{self, IoSlice};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The writing half, with what was left in it.
pub struct ConnectionWriter {
    half: OwnedWriteHalf,
    /// A part of a frame or an answer is out, the rest is not.
    torn: bool,
}

/// Nobody else writes as long as this is held.
pub type Turn = OwnedMutexGuard<ConnectionWriter>;

/// The writing half, for everybody who writes.
#[derive(Clone)]
pub struct SharedWriter(Arc<Mutex<ConnectionWriter>>);

impl SharedWriter {
    /// For a new connection.
    pub fn new(half: OwnedWriteHalf) -> Self {
        Self(Arc::new(Mutex::new(ConnectionWriter { half, torn: false })))
    }

    /// Waits until nobody else writes. An error if nothing may be written any more.
    pub async fn turn(&self) -> io::Result<Turn> {
        let turn = self.0.clone().lock_owned().await;
        if turn.torn {
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the last frame or answer was not finished",
            ));
        }
        Ok(turn)
    }

    /// Writes an answer. Dropped before its end, it was the last one.
    pub async fn write_answer(&self, bytes: &[u8]) -> io::Result<()> {
        let mut turn = self.turn().await?;
        turn.torn = true;
        turn.half.write_all(bytes).await?;
        turn.torn = false;
        Ok(())
    }

    /// Nothing more is written, whatever there was.
    pub async fn shut_down(&self) {
        let _ = self.0.lock().await.half.shutdown().await;
    }
}

impl ConnectionWriter {
    /// Writes as much of the frames as is taken now, waiting until that is something. Can be dropped and called again.
    pub async fn write_frames(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.half.write_vectored(slices).await
    }

    /// To be called after each write, before anything is waited for: whether a frame is partly out.
    pub fn set_torn(&mut self, torn: bool) {
        self.torn = torn;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn nothing_follows_what_was_not_finished() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let mut client = TcpStream::connect(listener.local_addr().expect("address")).await.expect("connects");
        let (stream, _) = listener.accept().await.expect("accepts");
        let (_reader, half) = stream.into_split();
        let writer = SharedWriter::new(half);
        writer.write_answer(b"RTSP/1.0 200 OK\r\n\r\n").await.expect("whole");
        let mut turn = writer.turn().await.expect("its turn");
        let frame = [b'$', 0, 0, 4, 1, 2];
        assert_eq!(turn.write_frames(&[IoSlice::new(&frame)]).await.expect("writes"), 6);
        turn.set_torn(true);
        drop(turn);
        assert!(writer.write_answer(b"RTSP/1.0 200 OK\r\n\r\n").await.is_err());
        assert!(writer.turn().await.is_err());
        writer.shut_down().await;
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.expect("reads");
        assert_eq!(got, [&b"RTSP/1.0 200 OK\r\n\r\n"[..], &frame].concat());
    }
}
