//! The dispatcher process: the live fleet for everything local.
mod json;
mod live;
mod subscription;
