//! Claims about the real program: real processes, sockets, shared memory, a real broker, a real browser.

mod architecture;
mod aside;
mod browser;
mod bytes;
mod delivery;
mod dispatched;
mod dispatcher;
mod drive;
mod mailbox;
mod mosquitto;
mod node;
mod page;
mod recording;
mod replay;
mod stream;
mod supervision;
mod terminal;
mod tracing;
mod vectors;
mod web;
