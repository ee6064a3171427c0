//! Configuration: what an operator writes, checked once, then handed to each role as plain settings.

mod settings;

pub use settings::{
    Ack, DispatcherSettings, Fence, Input, JumpRule, ObserverSettings, OverspeedRule, Rules,
    SensorSettings, TraceSettings, UplinkSettings,
};
