//! Circular fences, prepared so that a fix far from a fence costs a comparison and no trigonometry.
//!
//! Promises the edges as stated: inside at distance <= radius, outside again at distance > radius + margin, in between
//! whatever it was before.

use crate::config::Fence;
use crate::frame::Fix;

use super::place::{EARTH_RADIUS_M, METRES_PER_E7, distance_m, longitude_apart_e7};

/// Added to the box around a circle so that rounding never cuts it, 1e-7 degree (about 10 cm).
const BOX_SLACK_E7: f64 = 10.0;

/// Where a fix lies as seen from a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Within the radius.
    Inside,
    /// Between the radius and the margin: no evidence of a change.
    Margin,
    /// Beyond the margin.
    Outside,
}

/// A fence with its box.
#[derive(Clone, Debug)]
pub struct Circle {
    name: String,
    lat_e7: i32,
    lon_e7: i32,
    radius_m: f64,
    outside_m: f64,
    north_e7: u32,
    east_e7: u32,
}

impl Circle {
    /// Prepares a configured fence.
    pub fn new(fence: &Fence) -> Circle {
        let radius_m = fence.radius_mm as f64 / 1e3;
        let outside_m = radius_m + fence.margin_mm as f64 / 1e3;
        let (north_e7, east_e7) = reach_e7(fence.lat_e7, outside_m);
        Circle {
            name: fence.name.clone(),
            lat_e7: fence.lat_e7,
            lon_e7: fence.lon_e7,
            radius_m,
            outside_m,
            north_e7,
            east_e7,
        }
    }

    /// The fence's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// On which side a fix lies whose position is stated.
    pub fn side(&self, fix: &Fix) -> Side {
        if self.lat_e7.abs_diff(fix.lat_e7) > self.north_e7
            || longitude_apart_e7(self.lon_e7, fix.lon_e7) > self.east_e7
        {
            return Side::Outside;
        }
        let distance_m = distance_m(self.lat_e7, self.lon_e7, fix.lat_e7, fix.lon_e7);
        if distance_m <= self.radius_m {
            Side::Inside
        } else if distance_m > self.outside_m {
            Side::Outside
        } else {
            Side::Margin
        }
    }
}

/// How far a circle of `radius_m` around latitude `lat_e7` reaches north and east, 1e-7 degree. A circle that holds a
/// pole reaches all longitudes.
fn reach_e7(lat_e7: i32, radius_m: f64) -> (u32, u32) {
    let north_e7 = radius_m / METRES_PER_E7 + BOX_SLACK_E7;
    let angle = radius_m / EARTH_RADIUS_M;
    let lat = (f64::from(lat_e7) / 1e7).to_radians();
    let east_e7 = if lat.abs() + angle < std::f64::consts::FRAC_PI_2 {
        // Easternmost point of a small circle: sin(east) = sin(angle) / cos(lat).
        (angle.sin() / lat.cos()).asin().to_degrees() * 1e7 + BOX_SLACK_E7
    } else {
        f64::from(u32::MAX)
    };
    // A float that is too large saturates, which makes the box everything.
    (north_e7 as u32, east_e7 as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FixFields;
    use proptest::prelude::*;

    fn fence(lat_e7: i32, lon_e7: i32, radius_mm: u64) -> Fence {
        Fence {
            name: "yard".into(),
            lat_e7,
            lon_e7,
            radius_mm,
            margin_mm: 20_000,
        }
    }

    fn at(lat_e7: i32, lon_e7: i32) -> Fix {
        Fix {
            lat_e7,
            lon_e7,
            fields: FixFields(FixFields::POSITION),
            ..Fix::default()
        }
    }

    #[test]
    fn radius_and_margin_are_the_edges() {
        let circle = Circle::new(&fence(0, 0, 100_000));
        let north = |m: f64| at((m / METRES_PER_E7) as i32, 0);
        assert_eq!(circle.side(&north(99.9)), Side::Inside);
        assert_eq!(circle.side(&north(100.1)), Side::Margin);
        assert_eq!(circle.side(&north(119.9)), Side::Margin);
        assert_eq!(circle.side(&north(120.1)), Side::Outside);
    }

    #[test]
    fn a_fence_on_the_date_line_and_one_on_a_pole_are_whole() {
        let line = Circle::new(&fence(0, 1_800_000_000, 1_000_000));
        assert_eq!(line.side(&at(0, -1_799_950_000)), Side::Inside);
        let pole = Circle::new(&fence(900_000_000, 0, 1_000_000));
        assert_eq!(pole.side(&at(899_950_000, -900_000_000)), Side::Inside);
    }

    proptest! {
        #[test]
        fn the_box_never_cuts_the_circle(
            lat in -900_000_000..=900_000_000_i32,
            lon in -1_800_000_000..=1_800_000_000_i32,
            radius_mm in 1_000..500_000_000_u64,
            north in -60_000_000..=60_000_000_i32,
            east in -60_000_000..=60_000_000_i32,
        ) {
            let fix = at(
                lat.saturating_add(north).clamp(-900_000_000, 900_000_000),
                lon.saturating_add(east).clamp(-1_800_000_000, 1_800_000_000),
            );
            let distance = distance_m(lat, lon, fix.lat_e7, fix.lon_e7);
            let inside = distance <= radius_mm as f64 / 1e3;
            prop_assert_eq!(Circle::new(&fence(lat, lon, radius_mm)).side(&fix) == Side::Inside, inside);
        }
    }
}
