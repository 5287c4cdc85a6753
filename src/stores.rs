//! Finding and opening the store that a command works on, and what store errors mean for the exit status.

use crate::cli::StoreArg;
use crate::config::Config;
use crate::control::{self, Reply, Request};
use crate::failure::Failure;
use capture::{ReadError, Store, StoreError};
use std::path::{Path, PathBuf};

impl From<StoreError> for Failure {
    /// The sentences of the store name the remedy themselves.
    fn from(error: StoreError) -> Self {
        if let StoreError::Io { path, source, .. } = &error
            && source.kind() == std::io::ErrorKind::PermissionDenied
        {
            let remedy = format!("run this as the user that owns {}", path.display());
            return Self::failed(&error).next(remedy);
        }
        Self::failed(error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::failed(error)
    }
}

/// The store, or the directory in which it would be made.
pub fn nearest_directory(store: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(store).ok()?;
    absolute.ancestors().find(|path| path.is_dir()).map(Path::to_owned)
}

impl StoreArg {
    /// The directory: the flag, or the environment (clap reads it), or the configuration.
    pub fn path(&self, config: &Config) -> Result<PathBuf, Failure> {
        self.store.clone().or_else(|| config.store.clone()).ok_or_else(|| {
            Failure::usage("no store was named")
                .next("add --store DIR, set TAPDECK_STORE, or write `store = \"DIR\"` into the configuration")
        })
    }

    /// Opens an existing store for reading, after a recorder that may be writing it has brought its index up to now.
    pub fn open(&self, config: &Config) -> Result<Store, Failure> {
        let store = Store::open(&self.path(config)?)?;
        if let Some(Reply::Failed { text }) =
            control::ask(&store.control_socket(), &Request::Commit).or_else(lenient)?
        {
            tracing::warn!("the recorder could not bring its index up to now: {text}");
        }
        store.refresh()?;
        Ok(store)
    }
}

/// A recorder that can't be asked is no reason not to read what it has committed.
fn lenient(failure: Failure) -> Result<Option<Reply>, Failure> {
    tracing::warn!("answers may be some seconds old: {failure}");
    Ok(None)
}
