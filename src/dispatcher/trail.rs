//! Where a vehicle came from: a few points that get sparser the older they are.

use crate::frame::{Fix, FixFields};

/// Points of a trail. Full, every other one of the older two thirds goes, so a trail reaches back minutes, not seconds.
pub const POINTS_MAX: usize = 24;

/// A vehicle that has not come this far leaves no point, 1e-7 degrees of latitude (10 m).
const STEP_E7: f64 = 900.0;

/// One point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// UTC, milliseconds since 1970.
    pub time_ms: i64,
    /// 1e-7 degree.
    pub lat_e7: i32,
    /// 1e-7 degree.
    pub lon_e7: i32,
}

/// The points, oldest first.
#[derive(Default)]
pub struct Trail {
    points: Vec<Point>,
}

impl Trail {
    /// Adds a fix if it is good, has time and place, and lies far enough from the last point.
    pub fn add(&mut self, fix: &Fix) {
        if !fix
            .fields
            .has(FixFields::POSITION | FixFields::TIME | FixFields::VALID)
        {
            return;
        }
        let point = Point {
            time_ms: fix.time_ms,
            lat_e7: fix.lat_e7,
            lon_e7: fix.lon_e7,
        };
        if self.points.last().is_some_and(|last| !last.is_far(&point)) {
            return;
        }
        if self.points.len() == POINTS_MAX {
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index > POINTS_MAX * 2 / 3 || index % 2 == 1
            });
        }
        // In steps, since doubling would end with room for a third more points than there are to be.
        if self.points.len() == self.points.capacity() {
            self.points.reserve_exact(POINTS_MAX / 3);
        }
        self.points.push(point);
    }

    /// The points, oldest first.
    pub fn points(&self) -> &[Point] {
        &self.points
    }
}

impl Point {
    fn is_far(&self, other: &Point) -> bool {
        let north = f64::from(other.lat_e7) - f64::from(self.lat_e7);
        let east = f64::from(other.lon_e7) - f64::from(self.lon_e7);
        // Most fixes lie near the last point, and are settled without trigonometry.
        if north.abs() + east.abs() < STEP_E7 {
            return false;
        }
        let shrink = (f64::from(self.lat_e7) / 1e7).to_radians().cos();
        north.hypot(east * shrink) >= STEP_E7
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time_ms: i64, lat_e7: i32) -> Fix {
        Fix {
            time_ms,
            lat_e7,
            fields: FixFields(FixFields::POSITION | FixFields::TIME | FixFields::VALID),
            ..Fix::default()
        }
    }

    #[test]
    fn a_standing_vehicle_leaves_one_point_and_a_bad_fix_none() {
        let mut trail = Trail::default();
        (0..100).for_each(|n| trail.add(&at(n, (n % 3) as i32 * 100)));
        assert_eq!(trail.points().len(), 1);
        trail.add(&Fix {
            lat_e7: 90_000,
            ..Fix::default()
        });
        assert_eq!(trail.points().len(), 1);
    }

    #[test]
    fn a_long_trail_keeps_its_order_and_is_denser_where_it_is_newer() {
        let mut trail = Trail::default();
        for n in 0..1_000 {
            trail.add(&at(n, n as i32 * 1_000));
            assert!(trail.points().len() <= POINTS_MAX);
        }
        let times: Vec<i64> = trail.points().iter().map(|point| point.time_ms).collect();
        assert!(times.is_sorted() && times.last() == Some(&999));
        let gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.first() > gaps.last(), "{gaps:?}");
        assert_eq!(gaps.last(), Some(&1));
    }
}
