//! The classifier process: judges frames, keeps the device states, raises and clears alarms.
