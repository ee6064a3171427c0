//! Where a device was and when, and how far two such places are apart.
//!
//! Promises distances on a sphere of the mean Earth radius (haversine), as the alarm rules are stated. The sphere is up
//! to 0.5 % off the ellipsoid, which is less than a metre at the size of a fence's margin.

use serde::{Deserialize, Serialize};

use crate::config::JumpRule;
use crate::frame::Fix;

/// Mean radius of the Earth (IUGG), metres.
pub const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// Metres along a meridian in 1e-7 degree.
pub const METRES_PER_E7: f64 = EARTH_RADIUS_M * std::f64::consts::PI / 180.0 / 1e7;

/// Devices state times in whole seconds, so two fixes less than this apart imply no speed, ms.
const JUMP_INTERVAL_MIN_MS: i64 = 1_000;

/// A position with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// UTC, milliseconds since 1970.
    pub time_ms: i64,
    /// Latitude, 1e-7 degree.
    pub lat_e7: i32,
    /// Longitude, 1e-7 degree.
    pub lon_e7: i32,
}

impl Place {
    /// The place of a fix whose position and time are known to be stated.
    pub fn of(fix: &Fix) -> Place {
        Place {
            time_ms: fix.time_ms,
            lat_e7: fix.lat_e7,
            lon_e7: fix.lon_e7,
        }
    }

    /// Whether getting from here to `next` would have taken more than the greatest speed that `rule` believes. Going
    /// back in time is no jump.
    pub fn jumps_to(&self, next: &Place, rule: &JumpRule) -> bool {
        let passed_ms = next.time_ms.saturating_sub(self.time_ms);
        if passed_ms <= 0 {
            return false;
        }
        let passed_s = passed_ms.max(JUMP_INTERVAL_MIN_MS) as f64 / 1e3;
        let reach_m = f64::from(rule.speed_max_mm_s) / 1e3 * passed_s;
        // The way along a meridian and then along the equator is at least as long as the straight one, and needs no
        // trigonometry: nearly every fix is settled here.
        let north = self.lat_e7.abs_diff(next.lat_e7);
        let east = longitude_apart_e7(self.lon_e7, next.lon_e7);
        let detour_m = (f64::from(north) + f64::from(east)) * METRES_PER_E7;
        detour_m > reach_m
            && distance_m(self.lat_e7, self.lon_e7, next.lat_e7, next.lon_e7) > reach_m
    }
}

/// The shorter way round between two longitudes, 1e-7 degree.
pub fn longitude_apart_e7(a: i32, b: i32) -> u32 {
    let apart = a.abs_diff(b);
    apart.min(3_600_000_000_u32.saturating_sub(apart))
}

/// Great-circle distance between two points in 1e-7 degree, metres.
pub fn distance_m(lat_a: i32, lon_a: i32, lat_b: i32, lon_b: i32) -> f64 {
    let radians = |e7: i32| (f64::from(e7) / 1e7).to_radians();
    let (lat_a, lat_b) = (radians(lat_a), radians(lat_b));
    let half_north = (lat_b - lat_a) / 2.0;
    let half_east = (radians(lon_b) - radians(lon_a)) / 2.0;
    let h = half_north.sin().powi(2) + lat_a.cos() * lat_b.cos() * half_east.sin().powi(2);
    2.0 * EARTH_RADIUS_M * h.sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: JumpRule = JumpRule {
        speed_max_mm_s: 100_000,
        jumps_max: 3,
    };

    fn place(time_ms: i64, lat_e7: i32, lon_e7: i32) -> Place {
        Place {
            time_ms,
            lat_e7,
            lon_e7,
        }
    }

    #[test]
    fn a_degree_of_latitude_is_111_195_metres_and_distance_crosses_the_date_line() {
        // 2 pi R / 360 with the mean radius.
        assert!((distance_m(0, 0, 10_000_000, 0) - 111_195.08).abs() < 0.01);
        let across = distance_m(0, 1_799_999_000, 0, -1_799_999_000);
        assert!((across - 2_000.0 * METRES_PER_E7).abs() < 1e-3);
        assert_eq!(longitude_apart_e7(1_799_999_000, -1_799_999_000), 2_000);
    }

    #[test]
    fn a_fix_farther_than_the_greatest_speed_reaches_is_a_jump() {
        let here = place(10_000, 0, 0);
        let metres = |m: f64| (m / METRES_PER_E7) as i32;
        assert!(!here.jumps_to(&place(12_000, metres(199.0), 0), &RULE));
        assert!(here.jumps_to(&place(12_000, metres(201.0), 0), &RULE));
        assert!(!here.jumps_to(&place(9_000, metres(9_000.0), 0), &RULE));
    }

    #[test]
    fn fixes_within_a_second_are_taken_as_a_second_apart() {
        let near = place(10_100, (90.0 / METRES_PER_E7) as i32, 0);
        assert!(!place(10_000, 0, 0).jumps_to(&near, &RULE));
    }

    #[test]
    fn a_detour_that_is_too_long_is_measured_again_straight() {
        // North-east by 80 m each: 160 m by the detour, 113 m straight; at 120 m/s only the detour is too long.
        let rule = JumpRule {
            speed_max_mm_s: 120_000,
            jumps_max: 3,
        };
        let e7 = (80.0 / METRES_PER_E7) as i32;
        assert!(!place(0, 0, 0).jumps_to(&place(1_000, e7, e7), &rule));
    }
}
