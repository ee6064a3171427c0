//! Claims about the real program: real processes, sockets, shared memory, a real broker, a real browser.

mod architecture;
mod node;
mod supervision;
mod vectors;
