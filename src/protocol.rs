//! Pure decoders: bytes of a device to fixes, alarms and answers.

use serde::{Deserialize, Serialize};

/// What a sensor's bytes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// JT/T 808, editions 2011, 2013 and 2019.
    Jt808,
    /// NMEA 0183.
    Nmea,
}
