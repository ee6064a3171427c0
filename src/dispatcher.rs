//! The dispatcher: the live fleet for everything local. One ring in, one state table to read, one listening socket;
//! freshness first and no custody.
//!
//! In the order of a track's way: intake, live view, subscriptions (both behind the feed), stream. The server and its
//! HTTP routes are the door, the page is one of those who come in by it.

mod assets;
mod feed;
mod filter;
mod http;
mod intake;
mod json;
mod live;
mod process;
mod server;
mod stream;
mod subscription;
mod trail;

pub use process::{DispatcherError, run};
