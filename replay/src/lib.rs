//! From the store to RTSP clients: live and on-demand sources, pacing, RTP rewriting, the RTSP server.
mod config;
mod pacer;
mod presentation;
mod range;
mod request;
mod response;
mod rewrite;
mod rtcp;
mod sdp;
mod source;
mod stats;
#[cfg(test)]
mod synthetic;
mod target;
mod transport;
