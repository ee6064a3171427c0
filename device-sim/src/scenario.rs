//! What happens during a run: which vehicles press the button, lose power, speed, or drive through a fence, and the
//! rules by which the runtime finds out.
//!
//! All follows from the seed, the number of devices and the roads, so that a fleet and a checker started apart agree.
//! The first cycle is sized so that a run of [`SHOW_S`] seconds has each kind at least once, clears included; later
//! cycles draw anew.

use std::f64::consts::FRAC_PI_2;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use crate::alarm;
use crate::random::Random;
use crate::report::Report;
use crate::roads::{Lane, Roads};
use crate::truth::{Fence, Overspeed, Rules};
use crate::vehicle::{Manner, Start};

/// Name of the road graph's file.
pub const ROADS_FILE: &str = "roads.json";
/// Name of the configuration's file.
pub const CONFIG_FILE: &str = "scenario.toml";
/// Kinds of alarm that a run of at least [`SHOW_S`] seconds has.
pub const KINDS: [&str; 4] = ["sos", "power_cut", "overspeed", "geofence"];
/// Of those, the ones that follow from the course alone.
pub const COURSE_KINDS: [&str; 2] = ["overspeed", "geofence"];
/// Seconds in which the first cycle shows everything.
pub const SHOW_S: u32 = 16;

/// Seconds after which other vehicles are drawn.
const CYCLE_S: u32 = 60;
/// One in this many vehicles has the same part in the first cycle.
const CAST: usize = 20;
/// One in this many vehicles presses the button in a later cycle, and as many lose power.
const LATER_ONE_IN: usize = 20;
/// Radius and margin of the fences, metres.
const FENCE_M: (f64, f64) = (300.0, 20.0);
/// How much of the fence at the fast road lies on the road, metres.
const CHORD_M: f64 = 140.0;
/// The way from the fence back to where its visitors start, metres.
const APPROACH_M: f64 = 40.0;
/// Metres of fast road that the scenario looks for.
const RUN_M: f64 = 2_500.0;
/// Speed of those who start on the fast road, m/s.
const RUN_MPS: f64 = 22.0;

/// The scenario.
#[derive(Debug)]
pub struct Scenario {
    seed: u64,
    devices: u32,
    rules: Rules,
    /// The straightest fast road.
    run: Vec<Lane>,
    run_m: f64,
    /// Where on it the visitors of the fence start, metres.
    visitors_m: f64,
    /// Additional presses of the button: about one in this many seconds, each device.
    sos_every_s: Option<u32>,
}

/// What happens to one device, drawn for one cycle at a time.
#[derive(Clone, Debug, Default)]
pub struct Part {
    cycle: Option<u32>,
    sos: Option<u32>,
    power_cut: Option<(u32, u32)>,
    speeding: Option<(u32, u32)>,
    visiting: bool,
}

/// What happens to one device in one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Buttons pressed now, as bits of the alarm word.
    pub pressed: u32,
    /// Conditions that hold now, as bits of the alarm word.
    pub held: u32,
    /// How the driver drives.
    pub manner: Manner,
}

impl Scenario {
    /// The scenario of a seed for so many devices on these roads. `sos_every_s` adds presses of the button, about one
    /// in that many seconds for each device.
    pub fn new(seed: u64, devices: u32, sos_every_s: Option<u32>, roads: &Roads) -> Scenario {
        let run = fast_road(roads);
        let run_m: f64 = run.iter().map(|&lane| roads.length(lane)).sum();
        let at_m = (run_m * 0.3).clamp(APPROACH_M, 600.0);
        let fences = vec![beside(roads, &run, at_m + CHORD_M / 2.0), middle(roads)];
        Scenario {
            seed,
            devices,
            rules: Rules {
                overspeed: Some(Overspeed {
                    limit_dkmh: 900,
                    for_ms: 3_000,
                    hysteresis_dkmh: 50,
                }),
                fences,
            },
            run,
            run_m,
            visitors_m: (at_m - APPROACH_M).max(0.0),
            sos_every_s,
        }
    }

    /// The rules that the runtime must be given.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Kinds of device alarm that a device states in a run of at least [`SHOW_S`] seconds, if it can say the bits of
    /// `said`.
    pub fn stated(&self, device: u32, said: u32) -> impl Iterator<Item = &'static str> {
        let parts = [(0, alarm::SOS), (1, alarm::POWER_CUT)].into_iter();
        let own =
            parts.filter(move |&(role, bit)| self.plays(device, role) && said >> bit & 1 == 1);
        own.map(|(_, bit)| alarm::BITS[usize::from(bit)].0)
    }

    /// Where a device's vehicle begins. The stars of the first cycle begin on the fast road.
    pub fn start(&self, device: u32, roads: &Roads, random: &mut Random) -> Start {
        // Those with the same part drive one behind the other.
        let row = f64::from(device / CAST as u32) * 11.0;
        let metres = match () {
            () if self.plays(device, 3) => Some(self.visitors_m - row),
            () if self.plays(device, 2) => Some(self.run_m * 0.4 - row),
            () => None,
        };
        match metres {
            Some(metres) => Start {
                way: self.run.clone(),
                metres: metres.rem_euclid((self.run_m * 0.6).max(1.0)),
                speed_mps: RUN_MPS,
            },
            None => {
                let lanes = roads.lanes();
                let lane = lanes[random.below(lanes.len())];
                let metres = random.between(0.0, roads.length(lane));
                Start {
                    way: vec![lane],
                    metres,
                    speed_mps: 0.0,
                }
            }
        }
    }

    /// What happens to a device in the second `second` of its drive. `part` keeps what was drawn.
    pub fn moment(&self, device: u32, second: u32, part: &mut Part) -> Moment {
        let (cycle, at) = (second / CYCLE_S, second % CYCLE_S);
        if part.cycle != Some(cycle) {
            *part = self.draw(device, cycle);
        }
        let within = |span: Option<(u32, u32)>| span.is_some_and(|(a, b)| (a..b).contains(&at));
        let mut pressed = u32::from(part.sos == Some(at)) << alarm::SOS;
        if let Some(every) = self.sos_every_s {
            let stream = u64::from(device) << 32 | u64::from(second);
            let press = Random::part(!self.seed, stream).one_in(every.max(1) as usize);
            pressed |= u32::from(press) << alarm::SOS;
        }
        Moment {
            pressed,
            held: u32::from(within(part.power_cut)) << alarm::POWER_CUT,
            manner: match part.visiting {
                _ if within(part.speeding) => Manner::Speeding,
                true if at < SHOW_S => Manner::Hurried,
                _ => Manner::Careful,
            },
        }
    }

    /// Writes the road graph and the rules, as the runtime reads them, into a folder.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, roads: &Roads, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let graph = serde_json::to_string(roads.graph()).expect("a graph is plain data");
        std::fs::write(dir.join(ROADS_FILE), graph)?;
        std::fs::write(dir.join(CONFIG_FILE), self.config())
    }

    /// The rules as a drop-in for the runtime's configuration.
    pub fn config(&self) -> String {
        let mut text = format!(
            "# Rules of the simulated fleet: seed {}, {} devices.\n",
            self.seed, self.devices
        );
        if let Some(rule) = &self.rules.overspeed {
            let kmh = |tenths: u16| f64::from(tenths) / 10.0;
            write!(
                text,
                "\n[rules.overspeed]\nlimit = \"{}km/h\"\nfor = \"{}s\"\nhysteresis = \"{}km/h\"\n",
                kmh(rule.limit_dkmh),
                rule.for_ms / 1000,
                kmh(rule.hysteresis_dkmh)
            )
            .expect("a string takes everything");
        }
        for fence in &self.rules.fences {
            write!(
                text,
                "\n[[fence]]\nname = \"{}\"\nlat = {:.6}\nlon = {:.6}\nradius = \"{}m\"\nmargin = \"{}m\"\n",
                fence.name,
                f64::from(fence.lat_e6) / 1e6,
                f64::from(fence.lon_e6) / 1e6,
                fence.radius_m,
                fence.margin_m
            )
            .expect("a string takes everything");
        }
        text
    }

    /// Whether a device has one of the four parts of the first cycle. In a small fleet one device has several.
    fn plays(&self, device: u32, role: u32) -> bool {
        let devices = self.devices.max(1);
        device % CAST as u32 == role || (devices <= role && device == role % devices)
    }

    fn draw(&self, device: u32, cycle: u32) -> Part {
        let stream = u64::from(device) << 32 | u64::from(cycle);
        let mut random = Random::part(self.seed, stream ^ 0xca57);
        let mut within = |low: usize, high: usize| (low + random.below(high - low)) as u32;
        let early = (within(2, 8), within(2, 5), within(8, 11), within(8, 10));
        let late = (within(5, 55), within(5, 30), within(35, 55), within(1, 40));
        let mut chosen = |role| match cycle {
            0 => self.plays(device, role),
            _ => random.one_in(LATER_ONE_IN),
        };
        let (sos, from, to, fast) = if cycle == 0 {
            (early.0, early.1, early.2, (1, early.3))
        } else {
            (late.0, late.1, late.2, (late.3, late.3 + 10))
        };
        Part {
            cycle: Some(cycle),
            sos: chosen(0).then_some(sos),
            power_cut: chosen(1).then_some((from, to)),
            // Only who starts on the fast road speeds; elsewhere the bends would not allow it.
            speeding: (cycle == 0 && chosen(2)).then_some(fast),
            visiting: cycle == 0 && chosen(3),
        }
    }
}

impl Report {
    /// Moves the speed off the two values at which a rule's rounding, not its meaning, would decide: the limit and
    /// the limit less the hysteresis, which other units cannot hold exactly.
    /// It moves by `step_dkmh`, the step in which speeds are reported.
    pub fn clear_of(mut self, rules: &Rules, step_dkmh: u16) -> Report {
        if let Some(rule) = &rules.overspeed {
            let edges = [rule.limit_dkmh, rule.limit_dkmh - rule.hysteresis_dkmh];
            if edges.contains(&self.speed_dkmh) {
                self.speed_dkmh += step_dkmh;
            }
        }
        self
    }
}

/// The way that can be driven fastest for [`RUN_M`]: starts on each of the fastest lanes are tried.
fn fast_road(roads: &Roads) -> Vec<Lane> {
    let fastest = roads.lanes().iter().map(|&lane| roads.edge(lane).kmh);
    let fastest = fastest.fold(0.0, f64::max);
    let quick = |lane: &&Lane| roads.edge(**lane).kmh >= fastest * 0.6;
    let tried = roads
        .lanes()
        .iter()
        .filter(quick)
        .map(|&lane| straight_on(roads, lane));
    let best = tried.max_by(|a, b| a.1.total_cmp(&b.1));
    best.expect("the fastest lane is among the quick ones").0
}

/// Follows the road straight on, and rates the way: its length, less where it bends or is slow.
fn straight_on(roads: &Roads, first: Lane) -> (Vec<Lane>, f64) {
    let (mut way, mut metres, mut rating) = (vec![first], 0.0, 0.0);
    loop {
        let lane = way[way.len() - 1];
        let last = roads.pieces(lane) - 1;
        let bend = |next: &Lane| roads.bend_mps(lane, last, *next);
        let ahead = roads
            .onward(lane)
            .max_by(|a, b| bend(a).total_cmp(&bend(b)));
        let next = ahead.expect("a lane always leads on");
        for piece in 0..=last {
            let slow = roads.bend_mps(lane, piece, next).min(30.0) / 30.0;
            let limit = (roads.edge(lane).kmh / 80.0).min(1.0);
            let counted = roads.piece_m(lane, piece).min(RUN_M - metres).max(0.0);
            rating += counted * slow * limit * limit;
            metres += roads.piece_m(lane, piece);
        }
        if metres >= RUN_M || way.contains(&next) {
            return (way, rating);
        }
        way.push(next);
    }
}

/// A fence beside a way, so that the way cuts off [`CHORD_M`] of it around `at_m` metres.
fn beside(roads: &Roads, way: &[Lane], at_m: f64) -> Fence {
    let (lane, piece, part) = place(roads, way, at_m);
    let (from, to) = (roads.vertex(lane, piece), roads.vertex(lane, piece + 1));
    let [lon, lat] = roads.degrees(from, to, part);
    let away = (FENCE_M.0 * FENCE_M.0 - CHORD_M * CHORD_M / 4.0).sqrt();
    // To the left of the way; in a town that keeps right, the other carriageway is nearer to the middle.
    let heading = roads.heading(lane, piece) + FRAC_PI_2;
    let north = away * heading.cos() / 111_195.08;
    let east = away * heading.sin() / (111_195.08 * lat.to_radians().cos());
    fence("toll", lat + north, lon + east)
}

/// A fence around the middle of the map.
fn middle(roads: &Roads) -> Fence {
    let nodes = &roads.graph().nodes;
    let far = |v: &u32| {
        let [x, y] = roads.flat(*v);
        x.hypot(y)
    };
    let nearest = (0..nodes.len() as u32).min_by(|a, b| far(a).total_cmp(&far(b)));
    let [lon, lat] = nodes[nearest.expect("a graph has vertices") as usize];
    fence("market", lat, lon)
}

fn fence(name: &str, lat: f64, lon: f64) -> Fence {
    Fence {
        name: name.into(),
        lat_e6: (lat * 1e6).round() as i32,
        lon_e6: (lon * 1e6).round() as i32,
        radius_m: FENCE_M.0,
        margin_m: FENCE_M.1,
    }
}

/// Lane, piece and part of the piece `metres` into a way; its end if it is shorter.
fn place(roads: &Roads, way: &[Lane], mut metres: f64) -> (Lane, usize, f64) {
    for &lane in way {
        for piece in 0..roads.pieces(lane) {
            let length = roads.piece_m(lane, piece);
            if metres < length {
                return (lane, piece, metres / length);
            }
            metres -= length;
        }
    }
    let lane = way[way.len() - 1];
    (lane, roads.pieces(lane) - 1, 1.0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::town;
    use crate::truth::Judge;
    use crate::vehicle::Vehicle;

    /// Count of raises and clears by kind that a fleet's reports mean in the first seconds.
    fn show(
        roads: &Roads,
        seed: u64,
        devices: u32,
        seconds: u32,
    ) -> HashMap<&'static str, [u32; 2]> {
        let scenario = Scenario::new(seed, devices, None, roads);
        let mut episodes = Vec::new();
        for device in 0..devices {
            let mut random = Random::part(seed, u64::from(device));
            let start = scenario.start(device, roads, &mut random);
            let mut vehicle = Vehicle::new(roads, &start, false, random);
            let (mut part, mut judge) = (Part::default(), Judge::default());
            for second in 0..seconds {
                let moment = scenario.moment(device, second, &mut part);
                let alarms = moment.pressed | moment.held;
                let report = vehicle.report(roads, 1_000 + second, alarms);
                let report = report.clear_of(scenario.rules(), 1);
                judge.feed(scenario.rules(), device, second, &report, &mut episodes);
                vehicle.step(roads, moment.manner);
            }
        }
        let mut counts = HashMap::new();
        for episode in &episodes {
            let count: &mut [u32; 2] = counts.entry(episode.what.kind()).or_default();
            count[0] += 1;
            count[1] += u32::from(episode.cleared.is_some());
        }
        counts
    }

    #[test]
    fn short_run_has_every_kind_and_its_clear() {
        for (seed, devices) in [(1, 1), (2, 2), (3, 10), (4, 100), (5, 100), (6, 30), (7, 3)] {
            let roads = Roads::new(town::generate(seed)).unwrap();
            let counts = show(&roads, seed, devices, SHOW_S);
            for kind in KINDS {
                let [raised, cleared] = counts.get(kind).copied().unwrap_or_default();
                assert!(
                    raised > 0,
                    "seed {seed}, {devices} devices: no {kind} in {counts:?}"
                );
                let ends = kind == "sos" || cleared > 0;
                assert!(
                    ends,
                    "seed {seed}, {devices} devices: {kind} never clears in {counts:?}"
                );
            }
        }
    }

    #[test]
    fn real_roads_show_every_kind() {
        let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
        let folder = std::env::var_os("RINGWAY_TEST_DATA").unwrap_or(default.into());
        if !Path::new(&folder).is_dir() {
            return eprintln!("SKIPPED 3 road graphs: no test data at {folder:?}");
        }
        for name in ["andorra", "monaco", "north-bayreuth"] {
            let file = Path::new(&folder).join(format!("roads/{name}.json"));
            let roads = Roads::load(&file).unwrap();
            let counts = show(&roads, 1, 60, SHOW_S);
            for kind in KINDS {
                assert!(counts.contains_key(kind), "{name}: no {kind} in {counts:?}");
            }
        }
    }

    #[test]
    fn later_cycles_have_alarms_too() {
        let roads = Roads::new(town::generate(1)).unwrap();
        let (first, later) = (show(&roads, 1, 40, 60), show(&roads, 1, 40, 240));
        for kind in ["sos", "power_cut", "geofence"] {
            assert!(
                later[kind][0] > first[kind][0],
                "{kind}: {first:?} {later:?}"
            );
        }
    }

    #[test]
    fn config_is_what_an_operator_would_write() {
        let roads = Roads::new(town::generate(1)).unwrap();
        let config = Scenario::new(1, 200, None, &roads).config();
        let rule = "[rules.overspeed]\nlimit = \"90km/h\"\nfor = \"3s\"\nhysteresis = \"5km/h\"\n";
        assert!(config.contains(rule), "{config}");
        assert!(
            config.contains("[[fence]]\nname = \"toll\"\nlat = "),
            "{config}"
        );
        assert!(
            config.contains("radius = \"300m\"\nmargin = \"20m\"\n"),
            "{config}"
        );
    }

    #[test]
    fn speeds_stay_off_the_edges_of_the_rule() {
        let roads = Roads::new(town::generate(1)).unwrap();
        let scenario = Scenario::new(1, 1, None, &roads);
        for (speed_dkmh, reported) in [(849, 849), (850, 851), (900, 901), (901, 901)] {
            let report = Report {
                speed_dkmh,
                ..Report::default()
            };
            assert_eq!(report.clear_of(scenario.rules(), 1).speed_dkmh, reported);
        }
    }
}
