//! Tests of the product from outside: its processes' real entry points, real rings, real sockets.
#![allow(missing_docs)]
// clippy.toml allows it in tests; the helpers beside them are no tests to clippy.
#![allow(clippy::unwrap_used)]

mod browser;
mod dispatched;
mod dispatcher;
mod drive;
mod page;
