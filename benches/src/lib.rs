//! What the benches and the lab share: a seeded generator of random numbers, cameras' frames, a client, and process accounting.
//!
//! Nothing here is part of the product, and nothing here reads the product's formats but through its command line.

pub mod camera;
pub mod client;
pub mod frames;
pub mod proc;
pub mod random;
pub mod sender;
pub mod stamp;
