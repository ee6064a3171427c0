//! What the dispatcher is told when a vehicle's positions come in by another sensor from now on: frames do not say it.

use serde::{Deserialize, Serialize};

use super::{DeviceId, FrameError};

/// The sensor of the tracks that follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorChange {
    /// Whose tracks.
    pub device: DeviceId,
    /// Name of the sensor.
    pub sensor: String,
}

impl SensorChange {
    /// Reads what postcard wrote.
    ///
    /// # Errors
    /// [`FrameError::Tail`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<SensorChange, FrameError> {
        postcard::from_bytes(bytes).map_err(|_| FrameError::Tail)
    }
}
