//! Stores that are recorded, retained, cut off and indexed again.

mod again;
mod beside;
mod check;
mod files;
mod fragments;
mod power;
mod recording;
mod two_taps;
