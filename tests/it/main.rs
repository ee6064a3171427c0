//! Claims about the real program: real processes, sockets, shared memory, a real broker, a real browser.

// A test that cannot go on stops with the line that broke, also in what tests share.
#![allow(clippy::unwrap_used)]

mod admission;
mod architecture;
mod aside;
mod authority;
mod browser;
mod bytes;
mod captures;
mod delivery;
mod demo;
mod dispatched;
mod dispatcher;
mod documents;
mod drive;
mod example;
mod exec;
mod exposition;
mod fail_over;
mod fail_points;
mod fed;
mod fuzz_corpus;
mod gpsd;
mod http;
mod json;
mod listening;
mod mailbox;
mod mosquitto;
mod node;
mod observe;
mod owed;
mod page;
mod pipes;
mod plugins;
mod recording;
mod replay;
mod rubbish;
mod serial;
mod stream;
mod supervision;
mod terminal;
mod tls;
mod tracing;
mod udp;
mod uplink;
mod vectors;
mod web;
