//! Tests of the product from outside: its processes' real entry points, real rings, real sockets.
#![allow(missing_docs)]

mod browser;
mod dispatched;
mod dispatcher;
mod drive;
mod page;
