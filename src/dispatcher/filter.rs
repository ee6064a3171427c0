//! Which tracks a request asks for.

use crate::frame::{DeviceId, Fix};

/// A box in degrees, as GeoJSON orders it: west, south, east, north. West beyond east crosses the antimeridian.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoundingBox {
    west: f64,
    south: f64,
    east: f64,
    north: f64,
}

/// Why a filter is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not four numbers with commas between.
    #[error("bbox is not west,south,east,north in degrees")]
    Shape,
    /// A number is no place on earth, or south is beyond north.
    #[error("bbox is out of range: longitudes -180..180, latitudes -90..90, south before north")]
    Range,
    /// Not a device id.
    #[error("device is not 1 to 31 characters of A-Z a-z 0-9 . _ : -")]
    Device,
}

impl BoundingBox {
    /// Reads `west,south,east,north`.
    ///
    /// # Errors
    /// Shape or range.
    pub fn parse(text: &str) -> Result<BoundingBox, FilterError> {
        let mut numbers = [0.0; 4];
        let mut parts = text.split(',');
        for number in &mut numbers {
            let part = parts.next().ok_or(FilterError::Shape)?;
            *number = part.trim().parse().map_err(|_| FilterError::Shape)?;
        }
        if parts.next().is_some() {
            return Err(FilterError::Shape);
        }
        let [west, south, east, north] = numbers;
        let longitudes = (-180.0..=180.0).contains(&west) && (-180.0..=180.0).contains(&east);
        let latitudes = (-90.0..=90.0).contains(&south) && (-90.0..=90.0).contains(&north);
        if !longitudes || !latitudes || south > north {
            return Err(FilterError::Range);
        }
        Ok(BoundingBox {
            west,
            south,
            east,
            north,
        })
    }

    /// Whether a fix lies in the box, its edges included; one without position does not.
    pub fn contains(&self, fix: &Fix) -> bool {
        let Some((lat, lon)) = fix.position_deg() else {
            return false;
        };
        let across = if self.west <= self.east {
            (self.west..=self.east).contains(&lon)
        } else {
            lon >= self.west || lon <= self.east
        };
        across && (self.south..=self.north).contains(&lat)
    }
}

/// Reads a device id of a request.
///
/// # Errors
/// When it is none.
pub fn parse_device(text: &str) -> Result<DeviceId, FilterError> {
    DeviceId::new(text.as_bytes()).ok_or(FilterError::Device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FixFields;

    fn at(lat_e7: i32, lon_e7: i32) -> Fix {
        Fix {
            lat_e7,
            lon_e7,
            fields: FixFields(FixFields::POSITION),
            ..Fix::default()
        }
    }

    #[test]
    fn a_box_holds_what_lies_in_it_across_the_antimeridian_too() {
        let town = BoundingBox::parse("7.40, 43.72,7.44,43.76").unwrap();
        assert!(town.contains(&at(437_400_000, 74_200_000)));
        assert!(!town.contains(&at(437_400_000, 75_000_000)));
        assert!(!town.contains(&Fix::default()));
        let pacific = BoundingBox::parse("170,-20,-170,20").unwrap();
        assert!(
            pacific.contains(&at(0, 1_790_000_000)) && pacific.contains(&at(0, -1_790_000_000))
        );
        assert!(!pacific.contains(&at(0, 0)));
    }

    #[test]
    fn a_box_that_is_none_is_refused() {
        for text in ["", "1,2,3", "1,2,3,4,5", "a,b,c,d"] {
            assert_eq!(BoundingBox::parse(text), Err(FilterError::Shape), "{text}");
        }
        for text in [
            "0,1,0,0",
            "0,0,0,91",
            "NaN,0,0,0",
            "-181,0,0,0",
            "0,0,inf,0",
        ] {
            assert_eq!(BoundingBox::parse(text), Err(FilterError::Range), "{text}");
        }
    }
}
