//! `tapdeck serve`: RTSP from a store that exists.

use crate::cli::StoreArg;
use crate::config::Config;
use crate::console::Console;
use crate::failure::{Failure, Outcome};
use crate::interrupt::Interrupt;
use crate::listing;
use crate::options::ServeOptions;
use crate::rtsp::{self, Rtsp};
use crate::times;
use clap::Args;
use reconstruct::footage::{Footage, StreamInfo};
use replay::Bound;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::Duration;

/// Addresses that are printed; the rest are left to `tapdeck streams`.
const ADDRESSES_MAX: usize = 20;
/// How often the index of a store that is being written is read again.
const REFRESH: Duration = Duration::from_secs(1);

/// Serve a store over RTSP until interrupted
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck serve --store /tmp/office
  vlc 'rtsp://127.0.0.1:8554/NAME?from=2026-11-21T14:30:00Z&to=-10m'
  ffplay -rtsp_transport tcp rtsp://127.0.0.1:8554/NAME

NAME is a stream's name, or a camera's for all its tracks. Times as everywhere: RFC 3339, or relative to now. A recorder serves by \
itself (tapdeck record --rtsp); there are no users yet, so think before you give an address other than the loopback.")]
pub struct Serve {
    /// Where it listens.
    #[command(flatten)]
    pub options: ServeOptions,
    /// Where.
    #[command(flatten)]
    pub store: StoreArg,
}

impl Serve {
    /// Serves until SIGINT or SIGTERM.
    pub fn run(self, config: &Config, console: &Console) -> Outcome {
        let options = self.options.or(&config.serve);
        let Some(address) = rtsp::address(options.rtsp.as_deref())? else {
            return Err(Failure::usage("`off` leaves nothing to do").next("give --rtsp an address"));
        };
        let footage = Footage::open(&self.store.open(config)?)?;
        let interrupt = Interrupt::install()?;
        let server = Rtsp::server(Bound::to(address)?, footage.clone(), console);
        let mut rtsp = Rtsp::start(server)?;
        announce(&footage.streams()?, rtsp.address(), console)?;
        while !interrupt.wait(REFRESH) {
            if let Err(error) = footage.refresh() {
                tracing::warn!("the index could not be read again: {error}");
            }
        }
        let stats = rtsp.stats();
        rtsp.stop();
        console.say(format!("served {} packets in {} requests", stats.packets, stats.requests));
        Ok(())
    }
}

/// Whole addresses to copy.
fn announce(streams: &[StreamInfo], address: SocketAddr, console: &Console) -> Outcome {
    let reached = rtsp::reached_at(address, rtsp::own_addresses());
    let all = if address == reached { "" } else { ", on all addresses of this machine," };
    console.say(format!("serving rtsp://{reached}/{all} until Ctrl-C"));
    if streams.is_empty() {
        console.say("the store has no streams yet");
    }
    listing::print_lines(streams.iter().take(ADDRESSES_MAX).map(|stream| url(stream, reached)))?;
    if streams.len() > ADDRESSES_MAX {
        console.say(format!("and {} more, see `tapdeck streams`", streams.len() - ADDRESSES_MAX));
    }
    Ok(())
}

fn url(stream: &StreamInfo, address: SocketAddr) -> String {
    let range = match (stream.first, stream.last) {
        (Some(first), Some(last)) => format!("?from={}&to={}", times::rfc3339(first), times::rfc3339(last)),
        _ => String::new(),
    };
    let url = format!("rtsp://{address}/{}{range}", stream.name);
    // To be copied into a shell, where `&` means something; programs get the address alone.
    if std::io::stdout().is_terminal() { format!("'{url}'") } else { url }
}
