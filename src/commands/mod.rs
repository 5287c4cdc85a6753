//! One file a command: its flags, what it does with them, how it prints.

pub mod completions;
pub mod doctor;
pub mod import;
pub mod man;
pub mod packets;
pub mod status;
pub mod verify;
