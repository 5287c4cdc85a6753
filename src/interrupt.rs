//! SIGINT and SIGTERM end a command in good order; another one a second later ends it at once.

use crate::failure::Failure;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Of one Ctrl-C a terminal tells everyone in front of it, and `make` or a script tells its children once more: that is one wish.
const SAME_WISH: Duration = Duration::from_secs(1);

/// Waits for the order to stop.
pub struct Interrupt {
    asked: Receiver<()>,
}

impl Interrupt {
    /// Takes over both signals.
    pub fn install() -> Result<Self, Failure> {
        let cannot = |error| Failure::failed(format_args!("cannot take over signals: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let (ask, asked) = channel();
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::interrupt()).map_err(cannot)?,
                signal(SignalKind::terminate()).map_err(cannot)?,
            )
        };
        let watch = move || {
            runtime.block_on(async move {
                let mut wishes = Wishes::default();
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    match wishes.handle_signal(Instant::now()) {
                        Wish::Stop => {
                            let _ = ask.send(());
                        }
                        // 128 + SIGINT, as shells have it; everything published is recovered at the next start.
                        Wish::EndAtOnce => std::process::exit(130),
                    }
                }
            });
        };
        std::thread::Builder::new().name("signals".into()).spawn(watch).map_err(cannot)?;
        Ok(Self { asked })
    }

    /// True when it is time to stop; waits for that at most this long.
    pub fn wait(&self, at_most: Duration) -> bool {
        match self.asked.recv_timeout(at_most) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
            Err(RecvTimeoutError::Timeout) => false,
        }
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// To end in good order.
    Stop,
    /// Not to wait for that any longer.
    EndAtOnce,
}

/// Tells a second wish from the first one that came twice.
#[derive(Default)]
struct Wishes {
    first: Option<Instant>,
}

impl Wishes {
    fn handle_signal(&mut self, now: Instant) -> Wish {
        let first = *self.first.get_or_insert(now);
        if now.duration_since(first) >= SAME_WISH { Wish::EndAtOnce } else { Wish::Stop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the signals at these milliseconds ask for, one after the other.
    fn wishes(at_ms: &[u64]) -> Vec<Wish> {
        let (began, mut wishes) = (Instant::now(), Wishes::default());
        at_ms.iter().map(|ms| wishes.handle_signal(began + Duration::from_millis(*ms))).collect()
    }

    #[test]
    fn what_make_passes_on_of_one_ctrl_c_does_not_end_it_at_once() {
        assert_eq!(wishes(&[0]), [Wish::Stop]);
        assert_eq!(wishes(&[0, 0, 5, 999]), [Wish::Stop; 4]);
    }

    #[test]
    fn a_second_ctrl_c_a_second_later_ends_it_at_once() {
        assert_eq!(wishes(&[0, 1_000]), [Wish::Stop, Wish::EndAtOnce]);
        // The doubled first one does not put off the second.
        assert_eq!(
            wishes(&[0, 700, 1_400, 1_401]),
            [Wish::Stop, Wish::Stop, Wish::EndAtOnce, Wish::EndAtOnce]
        );
    }
}
