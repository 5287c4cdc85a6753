//! Stores that are recorded, retained, cut off and indexed again.

mod again;
mod beside;
mod check;
mod files;
mod power;
mod recording;
mod two_taps;
mod whole;
