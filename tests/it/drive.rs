//! Vehicles that drive on a road graph, for the page: one frame a second each, seeded.

use std::collections::HashMap;
use std::path::PathBuf;

use ringway::frame::{FixFields, Frame};
use serde_json::{Value, json};

use super::dispatched::{frame, now_ms};

const METRES_PER_DEGREE: f64 = 111_194.9;

/// A road graph in the format of `/v1/roads`.
pub fn roads() -> Value {
    let folder = std::env::var_os("RINGWAY_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    std::fs::read(folder.join("roads/monaco.json"))
        .map_or_else(|_| grid(), |json| serde_json::from_slice(&json).unwrap())
}

/// Twelve by twelve streets, where the test data is missing.
fn grid() -> Value {
    let nodes: Vec<_> = (0..144)
        .map(|n| {
            (
                7.40 + f64::from(n % 12) * 0.002,
                43.72 + f64::from(n / 12) * 0.0015,
            )
        })
        .collect();
    let street = |from: i32, to: i32| {
        let class = if from % 5 == 0 {
            "primary"
        } else {
            "residential"
        };
        json!({"class": class, "name": format!("Street {}", from % 12), "kmh": 50, "oneway": false, "nodes": [from, to]})
    };
    let across = (0..144).filter(|n| n % 12 < 11).map(|n| street(n, n + 1));
    let down = (0..132).map(|n| street(n, n + 12));
    let edges: Vec<_> = across.chain(down).collect();
    json!({"name": "Grid", "attribution": "made up", "nodes": nodes, "edges": edges})
}

struct Car {
    device: String,
    edge: usize,
    forward: bool,
    /// Metres from the edge's end that it came in by.
    along: f64,
    speed_mps: f64,
}

/// A fleet on its way.
pub struct Drive {
    /// Points of each edge: longitude, latitude.
    edges: Vec<Vec<(f64, f64)>>,
    /// Edges that begin (`true`) or end at a point.
    exits: HashMap<(u64, u64), Vec<(usize, bool)>>,
    cars: Vec<Car>,
    seed: u64,
}

impl Drive {
    pub fn new(graph: &Value, cars: usize, seed: u64) -> Drive {
        let point = |node: &Value| {
            let node = &graph["nodes"][node.as_u64().unwrap() as usize];
            (node[0].as_f64().unwrap(), node[1].as_f64().unwrap())
        };
        let edges = graph["edges"].as_array().unwrap().iter();
        let edges: Vec<Vec<(f64, f64)>> = edges
            .filter(|edge| edge["class"] != "service")
            .map(|edge| {
                edge["nodes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(point)
                    .collect()
            })
            .collect();
        let mut exits: HashMap<_, Vec<_>> = HashMap::new();
        for (index, edge) in edges.iter().enumerate() {
            let (first, last) = (edge[0], edge[edge.len() - 1]);
            exits.entry(key(first)).or_default().push((index, true));
            exits.entry(key(last)).or_default().push((index, false));
        }
        let mut drive = Drive {
            edges,
            exits,
            cars: Vec::new(),
            seed,
        };
        for number in 0..cars {
            let parked = drive.random() < 0.2;
            let car = Car {
                device: format!("1380000{:04}", 1000 + number),
                edge: (drive.random() * drive.edges.len() as f64) as usize,
                forward: drive.random() < 0.5,
                along: 0.0,
                speed_mps: if parked {
                    0.0
                } else {
                    6.0 + 11.0 * drive.random()
                },
            };
            drive.cars.push(car);
        }
        drive
    }

    /// Count of cars.
    pub fn len(&self) -> usize {
        self.cars.len()
    }

    /// What a car reports a second after its last report.
    pub fn report(&mut self, car: usize) -> Frame {
        let mut left = self.cars[car].speed_mps;
        let (edge, forward, along) = loop {
            let Car {
                edge,
                forward,
                along,
                ..
            } = self.cars[car];
            let room = length(&self.edges[edge]) - along;
            if left <= room {
                self.cars[car].along += left;
                break (edge, forward, along + left);
            }
            left -= room;
            let end = self.edges[edge][if forward {
                self.edges[edge].len() - 1
            } else {
                0
            }];
            let exits: Vec<_> = self.exits[&key(end)]
                .iter()
                .copied()
                .filter(|exit| exit.0 != edge)
                .collect();
            let turn = (self.random() * exits.len() as f64) as usize;
            let (edge, forward) = exits.get(turn).copied().unwrap_or((edge, !forward));
            self.cars[car] = Car {
                device: std::mem::take(&mut self.cars[car].device),
                edge,
                forward,
                along: 0.0,
                speed_mps: self.cars[car].speed_mps,
            };
        };
        let mut way = self.edges[edge].clone();
        if !forward {
            way.reverse();
        }
        let ((lon, lat), course) = place(&way, along);
        let car = &self.cars[car];
        let mut frame = frame(&car.device, now_ms());
        frame.fix.lon_e7 = (lon * 1e7) as i32;
        frame.fix.lat_e7 = (lat * 1e7) as i32;
        frame.fix.speed_mm_s = (car.speed_mps * 1e3) as u32;
        frame.fix.course_cdeg = (course * 100.0) as u16 % 36_000;
        frame.fix.fields.0 |= FixFields::SPEED | FixFields::COURSE;
        frame
    }

    /// xorshift64 (Marsaglia 2003), in 0..1.
    fn random(&mut self) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn key((lon, lat): (f64, f64)) -> (u64, u64) {
    (lon.to_bits(), lat.to_bits())
}

fn metres(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    let east = (b.0 - a.0) * METRES_PER_DEGREE * a.1.to_radians().cos();
    (east, (b.1 - a.1) * METRES_PER_DEGREE)
}

fn length(way: &[(f64, f64)]) -> f64 {
    let parts = way.windows(2).map(|pair| metres(pair[0], pair[1]));
    parts.map(|(east, north)| east.hypot(north)).sum()
}

/// Where `along` metres of a way are, and the course there in degrees.
fn place(way: &[(f64, f64)], mut along: f64) -> ((f64, f64), f64) {
    let last = way.len() - 2;
    for (index, pair) in way.windows(2).enumerate() {
        let (east, north) = metres(pair[0], pair[1]);
        let length = east.hypot(north);
        if along <= length || index == last {
            let part = if length > 0.0 {
                (along / length).min(1.0)
            } else {
                0.0
            };
            let (from, to) = (pair[0], pair[1]);
            let at = (
                from.0 + (to.0 - from.0) * part,
                from.1 + (to.1 - from.1) * part,
            );
            return (at, east.atan2(north).to_degrees().rem_euclid(360.0));
        }
        along -= length;
    }
    unreachable!("a way has at least two points")
}
