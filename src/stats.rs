//! The statistics page: one a process, relaxed atomics, fixed layout.
