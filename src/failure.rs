//! How a command fails: one sentence, what to do next, and an exit status.
//!
//! Owns the translation of the libraries' errors into words for the person at the terminal. Nothing below the
//! command line knows about exit statuses.

use std::fmt;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub struct Failure {
    status: u8,
    sentence: String,
    remedy: Option<String>,
}

/// What every command gives back.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// The command was understood but could not be done (exit status 1).
    pub fn failed(sentence: impl fmt::Display) -> Self {
        Self { status: 1, sentence: sentence.to_string(), remedy: None }
    }

    /// The command itself is wrong: no machine could do it (exit status 2).
    pub fn usage(sentence: impl fmt::Display) -> Self {
        Self { status: 2, sentence: sentence.to_string(), remedy: None }
    }

    /// Done, and the answer is no: `verify` found damage, `doctor` found an unfit machine. The findings have been
    /// printed already, so there is nothing more to say (exit status 1).
    pub fn silent() -> Self {
        Self { status: 1, sentence: String::new(), remedy: None }
    }

    /// Adds what to do next.
    pub fn next(mut self, remedy: impl fmt::Display) -> Self {
        self.remedy = Some(remedy.to_string());
        self
    }

    /// The process's exit status.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// True when there is nothing to print.
    pub fn is_silent(&self) -> bool {
        self.sentence.is_empty()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)?;
        match &self.remedy {
            Some(remedy) => write!(f, ": {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

/// A reader of our output that went away (`| head`) ends the command; anything else that keeps standard output from
/// being written is a failure.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self { status: 0, sentence: String::new(), remedy: None };
        }
        Self::failed(format_args!("cannot write the output: {error}"))
    }
}

/// Up to three of `known` that look like `wanted`, best first: what someone probably meant.
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let lower = wanted.to_lowercase();
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .map(|name| {
            let other = name.to_lowercase();
            let contained = if other.contains(&lower) { 0.5 } else { 0.0 };
            (strsim::jaro_winkler(&lower, &other) + contained, name)
        })
        .filter(|(score, _)| *score > 0.6)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.truncate(3);
    scored.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names_come_best_first_and_unlike_ones_not_at_all() {
        let known = ["entrance-video", "entrance-audio", "garage-video", "10.0.0.7"];
        assert_eq!(nearest("entrance-vidoe", known)[0], "entrance-video");
        assert_eq!(nearest("garage", known)[0], "garage-video");
        assert!(nearest("zzzz", known).is_empty());
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(failure.status(), 0);
        assert!(failure.is_silent());
    }
}
