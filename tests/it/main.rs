//! Claims about the real program: real processes, sockets, shared memory, a real broker, a real browser.

mod architecture;
mod browser;
mod dispatched;
mod dispatcher;
mod drive;
mod node;
mod page;
mod supervision;
mod vectors;
