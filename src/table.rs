//! The state table: one slot a device, two copies, switched by one store.
