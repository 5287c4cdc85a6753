//! `tapdeck.toml`: the options of the command line in a file.
//!
//! A key that is not an option is refused with its line: a misspelt `keep-byte` must not fill the disk.

use crate::failure::Failure;
use crate::options::{ImportOptions, RecordOptions, ServeOptions};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Where the configuration is looked for when none is named.
pub const DEFAULT_PATH: &str = "/etc/tapdeck/tapdeck.toml";

/// Everything a configuration file can say.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// The store of every command.
    pub store: Option<PathBuf>,
    /// Options of `tapdeck record`.
    pub record: RecordOptions,
    /// Options of `tapdeck import`.
    pub import: ImportOptions,
    /// Options of `tapdeck serve`.
    pub serve: ServeOptions,
}

impl Config {
    /// Reads the named file, or the default one if it exists; an empty name means no file at all.
    pub fn load(named: Option<&Path>) -> Result<Self, Failure> {
        let path = match named {
            Some(path) if path.as_os_str().is_empty() => return Ok(Self::default()),
            Some(path) => path,
            None if Path::new(DEFAULT_PATH).exists() => Path::new(DEFAULT_PATH),
            None => return Ok(Self::default()),
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::failed(format_args!("cannot read the configuration {}: {error}", path.display()))
                .next("check --config and TAPDECK_CONFIG")
        })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let place = line.map(|line| format!(" line {line}")).unwrap_or_default();
            Failure::usage(format_args!("{}{place}: {}", path.display(), error.message().trim()))
                .next("correct the file, or give the options on the command line")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::RecordOptions;
    use crate::size::ByteSize;
    use clap::CommandFactory;

    fn parse(text: &str) -> Result<Config, Failure> {
        Config::parse(text, Path::new("tapdeck.toml"))
    }

    #[test]
    fn the_packaged_example_is_valid() {
        let example = parse(include_str!("../packaging/tapdeck.toml")).unwrap();
        assert_eq!(example.record.interface, ["eth1"]);
    }

    #[test]
    fn options_read_like_the_flags() {
        let config =
            parse("store = \"/s\"\n[record]\ninterface = [\"eth1\"]\nkeep-bytes = \"2TiB\"\n").unwrap();
        assert_eq!(config.record.keep_bytes, Some(ByteSize(2 << 40)));
    }

    #[test]
    fn unknown_keys_are_refused_with_their_line() {
        let failure = parse("store = \"/s\"\n\n[record]\nkeep-byte = \"2TiB\"\n").unwrap_err();
        assert_eq!(failure.status(), 2);
        let text = failure.to_string();
        assert!(text.contains("line 4") && text.contains("keep-byte"), "{text}");
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_line() {
        let text = parse("[record]\nkeep-bytes = \"lots\"\n").unwrap_err().to_string();
        assert!(text.contains("line 2") && text.contains("lots"), "{text}");
    }

    #[test]
    fn every_record_flag_is_a_key_and_the_reverse() {
        let command = crate::cli::Cli::command();
        let record = command.get_subcommands().find(|c| c.get_name() == "record").unwrap();
        let flags: Vec<&str> = record.get_arguments().filter_map(|a| a.get_long()).collect();
        let shared = |flag: &&str| {
            !["store", "config", "verbose", "quiet", "help", "version", "status-every"].contains(flag)
        };
        for flag in flags.into_iter().filter(|flag| shared(flag)) {
            // A value of a wrong type proves that the key is known.
            let text = toml::from_str::<RecordOptions>(&format!("{flag} = {{}}")).unwrap_err().to_string();
            assert!(!text.contains("unknown field"), "--{flag} is no key of tapdeck.toml: {text}");
        }
    }
}
