//! Claims about the real program: real processes, sockets, shared memory, a real broker, a real browser.

// A test that cannot go on stops with the line that broke, also in what tests share.
#![allow(clippy::unwrap_used)]

mod architecture;
mod browser;
mod dispatched;
mod dispatcher;
mod drive;
mod mosquitto;
mod node;
mod page;
mod supervision;
mod uplink;
mod vectors;
