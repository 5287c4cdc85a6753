//! Is this machine fit to record? Each check looks at one thing and knows the remedy.
//!
//! Owns the checks; refuses to change anything but one temporary file in the store's directory, which the disk's speed
//! is measured with. Costs two seconds at most.

mod disk;
mod ffi;
mod interface;
mod machine;

use serde::Serialize;
use std::path::Path;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Recording works, but something may be lost or wrong.
    Warning,
    /// Recording will not work.
    Bad,
}

/// What one check found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub check: &'static str,
    /// The interface or directory, if the check is about one.
    pub subject: Option<String>,
    /// How it went.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Finding {
    fn new(check: &'static str, subject: Option<&str>, verdict: Verdict, seen: impl Into<String>) -> Self {
        Self { check, subject: subject.map(str::to_owned), verdict, seen: seen.into(), remedy: None }
    }

    fn good(check: &'static str, subject: Option<&str>, seen: impl Into<String>) -> Self {
        Self::new(check, subject, Verdict::Good, seen)
    }

    fn warning(check: &'static str, subject: Option<&str>, seen: impl Into<String>) -> Self {
        Self::new(check, subject, Verdict::Warning, seen)
    }

    fn bad(check: &'static str, subject: Option<&str>, seen: impl Into<String>) -> Self {
        Self::new(check, subject, Verdict::Bad, seen)
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// All checks that fit what was asked about.
pub fn examine(interfaces: &[String], store: Option<&Path>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in interfaces {
        findings.extend(interface::examine(name));
    }
    findings.extend(machine::examine(interfaces.len().max(1)));
    if let Some(store) = store {
        findings.extend(disk::examine(store, interface::wire_speed_bytes(interfaces)));
    }
    findings
}
