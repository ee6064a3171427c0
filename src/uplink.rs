//! The uplink process: alarms through a durable journal to the broker.
