//! `tapdeck name`: a name that lasts, for a stream or a camera.

use crate::cli::StoreArg;
use crate::config::Config;
use crate::console::Console;
use crate::control::{self, Reply, Request};
use crate::failure::{Failure, Outcome};
use crate::naming;
use capture::Store;
use clap::Args;
use reconstruct::footage::Footage;

/// Give a stream, or a camera, a name that lasts
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tapdeck name 10.0.0.7-Channels-101-video entrance-video --store DIR
  tapdeck name 10.0.0.7 entrance --store DIR                   # the camera

A camera's name plays all its tracks: rtsp://HOST:8554/entrance. The name is an RTSP path from then on, in place of one that was given before; the one that tapdeck found goes on working. Works beside a running recorder.")]
pub struct Name {
    /// A stream's id or name, or a camera's name
    pub stream: String,
    /// The new name
    pub name: String,
    /// Where.
    #[command(flatten)]
    pub store: StoreArg,
}

impl Name {
    /// Asks the recorder to do it, or does it itself when there is none.
    pub fn run(self, config: &Config, console: &Console) -> Outcome {
        let store = Store::open(&self.store.path(config)?)?;
        let request = Request::Name { stream: self.stream.clone(), name: self.name.clone() };
        match control::ask(&store.control_socket(), &request)? {
            Some(Reply::Failed { text }) => return Err(Failure::failed(text)),
            Some(_) => {}
            None => self.give(&store)?,
        }
        console.say(format!("{} is called {} now", self.stream, self.name));
        Ok(())
    }

    fn give(&self, store: &Store) -> Outcome {
        let _lock = store.lock()?;
        let record = naming::record(&Footage::open(store)?, &self.stream, &self.name)?;
        store.append(&record)?;
        Ok(store.sync_journal()?)
    }
}
