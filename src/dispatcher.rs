//! The dispatcher process: the live fleet for local subscribers.
