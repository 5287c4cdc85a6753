//! One file a command: its flags, what it does with them, how it prints.

pub mod completions;
pub mod doctor;
pub mod export;
pub mod import;
pub mod man;
pub mod name;
pub mod packets;
pub mod record;
pub mod reindex;
pub mod serve;
pub mod status;
pub mod streams;
pub mod timeline;
pub mod verify;
