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
                let mut first_asked: Option<Instant> = None;
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if first_asked.is_some_and(|first| first.elapsed() >= SAME_WISH) {
                        // 128 + SIGINT, as shells have it; everything published is recovered at the next start.
                        std::process::exit(130);
                    }
                    first_asked.get_or_insert_with(Instant::now);
                    let _ = ask.send(());
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
