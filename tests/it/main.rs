//! Claims about the real program: real processes, sockets, shared memory, a real broker, a real browser.

// A test that cannot go on stops with the line that broke, also in what tests share.
#![allow(clippy::unwrap_used)]

mod architecture;
mod aside;
mod authority;
mod browser;
mod bytes;
mod delivery;
mod demo;
mod dispatched;
mod dispatcher;
mod documents;
mod drive;
mod example;
mod exposition;
mod fail_points;
mod fuzz_corpus;
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
mod receiver;
mod receivers;
mod recording;
mod replay;
mod rubbish;
mod stream;
mod supervision;
mod terminal;
mod tls;
mod tracing;
mod udp;
mod uplink;
mod vectors;
mod web;
