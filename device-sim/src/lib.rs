//! A fleet of simulated trackers and a checker of what became of their reports.
