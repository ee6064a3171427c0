//! The dispatcher process: the live fleet for everything local.
mod assets;
mod feed;
mod filter;
mod http;
mod json;
mod live;
mod server;
mod stream;
mod subscription;
