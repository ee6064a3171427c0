//! A vehicle on the roads: where it is, second by second, with plausible accelerations.
//!
//! Promises that the same random numbers give the same drive, that a report is where the vehicle is, and that speed
//! and place agree. It neither knows the clock nor other vehicles; they drive through each other.

use crate::random::Random;
use crate::report::Report;
use crate::roads::{Lane, Roads};

/// Speeding up, m/s2.
const FASTER_MPS2: f64 = 2.0;
/// Slowing down, m/s2.
const SLOWER_MPS2: f64 = 3.0;
/// No ordinary driver of the fleet goes faster, m/s (84 km/h).
const FLEET_MPS_MAX: f64 = 84.0 / 3.6;
/// What a speeding driver wants, m/s (112 km/h).
pub const SPEEDING_MPS: f64 = 112.0 / 3.6;
/// One in this many junctions is red.
const RED_ONE_IN: usize = 6;
/// Longest wait at red, seconds.
const RED_S_MAX: usize = 9;

/// Most pieces of road in one second; more means that the graph has a ring without length.
const PIECES_A_SECOND_MAX: usize = 1_000;

/// How the driver drives during one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// By the limits.
    Careful,
    /// By the limits, but through every bend and light: in a hurry.
    Hurried,
    /// As fast as [`SPEEDING_MPS`].
    Speeding,
}

/// A vehicle and its way.
#[derive(Debug)]
pub struct Vehicle {
    lane: Lane,
    next: Lane,
    /// Number of the piece of the lane.
    piece: usize,
    /// Metres into the piece.
    along_m: f64,
    speed_mps: f64,
    driven_m: f64,
    /// Share of the limit that this driver goes by.
    zeal: f64,
    /// Plans its way to somewhere, instead of turning as it likes.
    errand: bool,
    /// The way ahead after `next`, last lane first.
    route: Vec<Lane>,
    red: bool,
    wait_s: usize,
    random: Random,
}

/// Where a vehicle begins.
#[derive(Clone, Debug)]
pub struct Start {
    /// Lanes to drive first, in order; at least one.
    pub way: Vec<Lane>,
    /// Metres into them, less than their length.
    pub metres: f64,
    /// Speed, m/s.
    pub speed_mps: f64,
}

impl Vehicle {
    /// A vehicle that begins at `start` and then drives by its own numbers.
    pub fn new(roads: &Roads, start: &Start, errand: bool, mut random: Random) -> Vehicle {
        let zeal = random.between(0.85, 1.0);
        let mut vehicle = Vehicle {
            lane: start.way[0],
            next: start.way[0],
            piece: 0,
            along_m: 0.0,
            speed_mps: start.speed_mps,
            driven_m: 0.0,
            zeal,
            errand,
            route: start.way[1..].iter().rev().copied().collect(),
            red: false,
            wait_s: 0,
            random,
        };
        vehicle.choose(roads);
        vehicle.advance(roads, start.metres, false);
        vehicle.red = false;
        vehicle
    }

    /// Drives for one second.
    pub fn step(&mut self, roads: &Roads, manner: Manner) {
        if self.wait_s > 0 {
            self.wait_s -= 1;
            return;
        }
        let wanted = match manner {
            Manner::Speeding => SPEEDING_MPS,
            _ => (roads.edge(self.lane).kmh / 3.6 * self.zeal).min(FLEET_MPS_MAX),
        };
        let allowed = match manner {
            Manner::Careful => wanted.min(self.allowed(roads)),
            _ => wanted,
        };
        if manner != Manner::Careful {
            self.red = false;
        }
        let (low, high) = (self.speed_mps - SLOWER_MPS2, self.speed_mps + FASTER_MPS2);
        let speed = allowed.clamp(low.max(0.0), high);
        let metres = (self.speed_mps + speed) / 2.0;
        self.speed_mps = speed;
        self.driven_m += metres;
        self.advance(roads, metres, true);
    }

    /// Where it is now.
    pub fn report(&self, roads: &Roads, time_s: u32, alarms: u32) -> Report {
        let from = roads.vertex(self.lane, self.piece);
        let to = roads.vertex(self.lane, self.piece + 1);
        let length = roads.piece_m(self.lane, self.piece).max(1e-6);
        let [lon, lat] = roads.degrees(from, to, self.along_m / length);
        let course = roads.heading(self.lane, self.piece).to_degrees();
        let hills = 60.0 + 20.0 * (self.driven_m / 900.0).sin();
        let sway = (self.driven_m / 300.0) as u32;
        Report {
            time_s,
            lat_e6: (lat * 1e6).round() as i32,
            lon_e6: (lon * 1e6).round() as i32,
            altitude_m: hills as u16,
            speed_dkmh: (self.speed_mps * 36.0).round() as u16,
            course_deg: course.rem_euclid(360.0) as u16,
            alarms,
            odometer_hm: (self.driven_m / 100.0) as u32,
            satellites: 8 + (sway % 5) as u8,
            signal: 18 + (sway % 11) as u8,
        }
    }

    /// Fastest speed from which every bend ahead can still be taken, and a red light respected.
    fn allowed(&self, roads: &Roads) -> f64 {
        let look = self.look_m();
        let mut ahead = roads.piece_m(self.lane, self.piece) - self.along_m;
        let mut allowed = f64::INFINITY;
        let mut at = self.piece;
        let last = roads.pieces(self.lane) - 1;
        while ahead < look {
            let there = match (at == last, self.red) {
                (true, true) => 0.0,
                _ => roads.bend_mps(self.lane, at, self.next),
            };
            let room = (ahead - self.speed_mps / 2.0).max(0.0);
            // The new speed v must leave room to brake after this second: v/2 + v^2/2b <= room + there^2/2b.
            let squares = 4.0 * (2.0 * SLOWER_MPS2 * room + there * there);
            let speed = ((SLOWER_MPS2 * SLOWER_MPS2 + squares).sqrt() - SLOWER_MPS2) / 2.0;
            allowed = allowed.min(speed);
            if at == last {
                break;
            }
            at += 1;
            ahead += roads.piece_m(self.lane, at);
        }
        // Creeping towards a line would take for ever.
        allowed.max(1.0)
    }

    /// How far ahead this driver must look, metres: one second passes before the next look, so a little more than
    /// the braking distance.
    fn look_m(&self) -> f64 {
        self.speed_mps * self.speed_mps / (2.0 * SLOWER_MPS2) + 2.0 * self.speed_mps + 5.0
    }

    /// Moves on by `metres`, over as many pieces and lanes as that takes; red lights count if `lights`.
    fn advance(&mut self, roads: &Roads, mut metres: f64, lights: bool) {
        for _ in 0..PIECES_A_SECOND_MAX {
            let length = roads.piece_m(self.lane, self.piece);
            if self.along_m + metres < length {
                self.along_m += metres;
                return;
            }
            metres -= length - self.along_m;
            if self.piece + 1 < roads.pieces(self.lane) {
                self.piece += 1;
                self.along_m = 0.0;
            } else if self.red && lights {
                self.along_m = length;
                self.speed_mps = 0.0;
                self.red = false;
                self.wait_s = 1 + self.random.below(RED_S_MAX);
                return;
            } else {
                self.lane = self.next;
                (self.piece, self.along_m) = (0, 0.0);
                self.choose(roads);
            }
        }
    }

    /// Decides where to go on at the end of the lane, and whether the light there is red.
    fn choose(&mut self, roads: &Roads) {
        if self.route.is_empty() && self.errand {
            let goals = roads.lanes();
            let goal = goals[self.random.below(goals.len())];
            self.route = roads.route(self.lane, goal);
        }
        let ways = roads.onward(self.lane);
        let count = ways.clone().count();
        let turn = self.random.below(count);
        self.next = match self.route.pop() {
            Some(way) => way,
            None => ways.clone().nth(turn).expect("a lane always leads on"),
        };
        let slow = roads.edge(self.lane).kmh < 75.0;
        // A light that turns red too near to stop at is driven through.
        let room = self.look_m() < roads.length(self.lane);
        self.red = count > 1 && slow && self.random.one_in(RED_ONE_IN) && room;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::town;

    fn drive(seed: u64, part: u64, seconds: u32) -> Vec<Report> {
        let roads = Roads::new(town::generate(seed)).unwrap();
        let mut random = Random::part(seed, part);
        let lane = roads.lanes()[random.below(roads.lanes().len())];
        let start = Start {
            way: vec![lane],
            metres: 0.0,
            speed_mps: 0.0,
        };
        let mut vehicle = Vehicle::new(&roads, &start, part.is_multiple_of(2), random);
        let second = |n| {
            vehicle.step(&roads, Manner::Careful);
            vehicle.report(&roads, 1_000 + n, 0)
        };
        (0..seconds).map(second).collect()
    }

    #[test]
    fn same_seed_drives_the_same_way() {
        assert_eq!(drive(1, 3, 200), drive(1, 3, 200));
        assert_ne!(drive(1, 3, 200), drive(1, 4, 200));
    }

    #[test]
    fn drives_are_plausible() {
        for part in 0..40 {
            let reports = drive(9, part, 600);
            for pair in reports.windows(2) {
                let (a, b) = (&pair[0], &pair[1]);
                let (before, after) = (
                    f64::from(a.speed_dkmh) / 36.0,
                    f64::from(b.speed_dkmh) / 36.0,
                );
                assert!(after <= FLEET_MPS_MAX + 0.1, "part {part}: {b:?}");
                assert!(
                    after - before <= FASTER_MPS2 + 0.1,
                    "part {part}: {a:?} {b:?}"
                );
                // A stop at a line may be a little sharper than planned.
                assert!(
                    before - after <= SLOWER_MPS2 + 3.0,
                    "part {part}: {a:?} {b:?}"
                );
                let north = f64::from(b.lat_e6 - a.lat_e6) * 0.111_195;
                let shrink = (f64::from(a.lat_e6) / 1e6).to_radians().cos();
                let east = f64::from(b.lon_e6 - a.lon_e6) * 0.111_195 * shrink;
                let metres = north.hypot(east);
                assert!(
                    metres <= before.max(after) + 1.0,
                    "part {part}: {metres} m, {a:?} {b:?}"
                );
            }
            let driven = reports[599].odometer_hm;
            assert!(driven > 10, "part {part} got {driven} x 100 m far");
        }
    }

    #[test]
    fn speeding_gets_fast_and_the_bends_slow() {
        let roads = Roads::new(town::generate(2)).unwrap();
        let motorway = |lane: &&Lane| roads.edge(**lane).class == town::MOTORWAY;
        let longest = |a: &&Lane, b: &&Lane| roads.length(**a).total_cmp(&roads.length(**b));
        let lane = *roads
            .lanes()
            .iter()
            .filter(motorway)
            .max_by(longest)
            .unwrap();
        let start = Start {
            way: vec![lane],
            metres: 10.0,
            speed_mps: 20.0,
        };
        let mut vehicle = Vehicle::new(&roads, &start, false, Random::new(1));
        (0..8).for_each(|_| vehicle.step(&roads, Manner::Speeding));
        assert!(vehicle.report(&roads, 0, 0).speed_dkmh > 1_100);
        (0..8).for_each(|_| vehicle.step(&roads, Manner::Careful));
        assert!(vehicle.report(&roads, 0, 0).speed_dkmh <= 840);
    }
}
