//! A town from a seed: streets in blocks, radial avenues, a ring road and a motorway past it.
//!
//! Promises the same graph for the same seed, and that every vertex can be reached from every other. Towns lie in
//! all four quarters of the globe by seed, so that signs of coordinates are driven too. Nothing of it exists.

use crate::random::Random;
use crate::roads::{Edge, Graph};

/// The attribution of every generated graph.
pub const ATTRIBUTION: &str = "generated";
/// Class of the motorway's edges.
pub const MOTORWAY: &str = "motorway";

const RING_M: f64 = 1_500.0;
const RING_SIDES: usize = 48;
const AVENUES: usize = 7;
const BLOCK_M: (f64, f64) = (150.0, 240.0);
/// How far south of the middle the motorway runs, metres.
const MOTORWAY_SOUTH_M: f64 = 2_300.0;
const MOTORWAY_LENGTH_M: f64 = 8_000.0;
const MOTORWAY_PIECES: usize = 80;
/// The carriageways lie this far from the middle line, metres.
const CARRIAGEWAY_M: f64 = 12.0;
/// Pieces of one road nearer than this are one vertex, metres.
const SNAP_M: f64 = 1.0;

type Point = [f64; 2];

/// A road before it is cut at its junctions.
struct Road {
    class: &'static str,
    name: String,
    kmh: f64,
    oneway: bool,
    line: Vec<Point>,
}

/// The town of `seed`.
pub fn generate(seed: u64) -> Graph {
    let mut random = Random::part(seed, 0x70);
    let lat = random.between(36.0, 56.0) * if seed & 2 == 0 { 1.0 } else { -1.0 };
    let lon = random.between(5.0, 40.0) * if seed & 4 == 0 { 1.0 } else { -1.0 };
    let mut roads = vec![ring()];
    roads.extend(avenues(&mut random));
    roads.extend(streets(&mut random));
    roads.extend(motorway(&mut random));
    let mut plan = Plan::default();
    for index in 0..roads.len() {
        plan.cut(&roads, index);
    }
    plan.prune();
    let east = 1.0 / (111_195.08 * lat.to_radians().cos());
    let degrees = |[x, y]: Point| [round(lon + x * east), round(lat + y / 111_195.08)];
    Graph {
        name: format!("Town {seed}"),
        attribution: ATTRIBUTION.to_string(),
        nodes: plan.points.into_iter().map(degrees).collect(),
        edges: plan.edges,
    }
}

/// Seven decimals: what a graph file holds of a degree.
fn round(degrees: f64) -> f64 {
    (degrees * 1e7).round() / 1e7
}

fn ring() -> Road {
    let corner = |n: usize| {
        let angle = n as f64 / RING_SIDES as f64 * std::f64::consts::TAU;
        [RING_M * angle.sin(), RING_M * angle.cos()]
    };
    Road {
        class: "primary",
        name: "Ring".into(),
        kmh: 70.0,
        oneway: false,
        line: (0..=RING_SIDES).map(|n| corner(n % RING_SIDES)).collect(),
    }
}

/// From the middle to the ring; the two that point south-east and south-west go on to the motorway.
fn avenues(random: &mut Random) -> Vec<Road> {
    let turn = random.between(0.0, 0.2);
    let avenue = |n: usize| {
        let (angle, reach) = match n {
            0 => (2.6, MOTORWAY_SOUTH_M * 1.35),
            1 => (3.7, MOTORWAY_SOUTH_M * 1.35),
            n => ((n as f64 - 2.0) * 0.98 + 4.6 + turn, RING_M),
        };
        // A little past the ring, so that rounding cannot leave a gap there; the stub is cut off.
        let reach = reach + 5.0;
        Road {
            class: "secondary",
            name: format!("Avenue {}", n + 1),
            kmh: 60.0,
            oneway: false,
            line: vec![
                [0.0, 0.0],
                [reach * f64::sin(angle), reach * f64::cos(angle)],
            ],
        }
    };
    (0..AVENUES).map(avenue).collect()
}

/// Streets north to south and east to west inside the ring; what lies between them are the blocks.
fn streets(random: &mut Random) -> Vec<Road> {
    let mut roads = Vec::new();
    for upright in [true, false] {
        let mut at = -RING_M * 0.8;
        while at < RING_M * 0.8 {
            let reach = (RING_M * RING_M - at * at).sqrt() + 5.0;
            let (low, high) = ([at, -reach], [at, reach]);
            let flip = |[x, y]: Point| if upright { [x, y] } else { [y, x] };
            let main = random.one_in(4);
            roads.push(Road {
                class: if main { "tertiary" } else { "residential" },
                name: format!("Street {}", roads.len() + 1),
                kmh: if main { 50.0 } else { 30.0 },
                oneway: false,
                line: vec![flip(low), flip(high)],
            });
            at += random.between(BLOCK_M.0, BLOCK_M.1);
        }
    }
    roads
}

/// Two carriageways in gentle waves, joined at both ends.
fn motorway(random: &mut Random) -> Vec<Road> {
    let phase = random.between(0.0, std::f64::consts::TAU);
    let line = |side: f64| -> Vec<Point> {
        let point = |n: usize| {
            let x = (n as f64 / MOTORWAY_PIECES as f64 - 0.5) * MOTORWAY_LENGTH_M;
            let wave = 150.0 * (x / 1_400.0 + phase).sin();
            [x, side * CARRIAGEWAY_M - MOTORWAY_SOUTH_M + wave]
        };
        (0..=MOTORWAY_PIECES).map(point).collect()
    };
    // Traffic keeps right: the southern carriageway leads east. A turn at its end leads back west.
    let mut eastward = line(-1.0);
    let mut westward = line(1.0);
    westward.reverse();
    let (east_end, west_end) = (eastward[MOTORWAY_PIECES], westward[MOTORWAY_PIECES]);
    eastward.push([east_end[0] + 30.0, east_end[1] + CARRIAGEWAY_M]);
    eastward.push(westward[0]);
    westward.push([west_end[0] - 30.0, west_end[1] - CARRIAGEWAY_M]);
    westward.push(eastward[0]);
    let road = |name: &str, line| Road {
        class: MOTORWAY,
        name: name.into(),
        kmh: 80.0,
        oneway: true,
        line,
    };
    vec![road("M1 east", eastward), road("M1 west", westward)]
}

/// Vertices and edges so far.
#[derive(Default)]
struct Plan {
    points: Vec<Point>,
    edges: Vec<Edge>,
}

impl Plan {
    /// Cuts a road where it meets another, and keeps the pieces between junctions.
    fn cut(&mut self, roads: &[Road], index: usize) {
        let road = &roads[index];
        // Distance along the road, point, and whether it is a junction.
        let mut stops: Vec<(f64, Point, bool)> = Vec::new();
        let mut before = 0.0;
        for (n, piece) in road.line.windows(2).enumerate() {
            stops.push((before, piece[0], n == 0));
            let length = (piece[1][0] - piece[0][0]).hypot(piece[1][1] - piece[0][1]);
            for (other, crossed) in roads
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index)
            {
                for wall in crossed.line.windows(2) {
                    // Both roads must find the very same point: always cross the earlier with the later.
                    let hit = match index < other {
                        true => crossing(piece, wall),
                        false => crossing(wall, piece),
                    };
                    if let Some(point) = hit {
                        let part = (point[0] - piece[0][0]).hypot(point[1] - piece[0][1]);
                        stops.push((before + part, point, true));
                    }
                }
            }
            before += length;
        }
        stops.push((before, road.line[road.line.len() - 1], true));
        stops.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut nodes: Vec<u32> = Vec::new();
        for (_, point, junction) in stops {
            let vertex = self.vertex(point);
            if nodes.last() != Some(&vertex) {
                nodes.push(vertex);
            }
            if junction && nodes.len() > 1 {
                self.keep(road, std::mem::replace(&mut nodes, vec![vertex]));
            }
        }
    }

    fn vertex(&mut self, [x, y]: Point) -> u32 {
        let near = |p: &Point| (p[0] - x).hypot(p[1] - y) < SNAP_M;
        let known = self.points.iter().position(near);
        known.unwrap_or_else(|| {
            self.points.push([x, y]);
            self.points.len() - 1
        }) as u32
    }

    fn keep(&mut self, road: &Road, nodes: Vec<u32>) {
        self.edges.push(Edge {
            class: road.class.into(),
            name: road.name.clone(),
            kmh: road.kmh,
            oneway: road.oneway,
            nodes,
        });
    }

    /// Takes away what leads nowhere: the ends of streets and avenues past the road that they end on.
    fn prune(&mut self) {
        loop {
            let mut touched = vec![0; self.points.len()];
            let ends = |edge: &Edge| [edge.nodes[0], edge.nodes[edge.nodes.len() - 1]];
            for end in self.edges.iter().flat_map(ends) {
                touched[end as usize] += 1;
            }
            let before = self.edges.len();
            self.edges
                .retain(|edge| ends(edge).iter().all(|&end| touched[end as usize] > 1));
            if self.edges.len() == before {
                return;
            }
        }
    }
}

/// Where two pieces cross, if they do.
fn crossing(a: &[Point], b: &[Point]) -> Option<Point> {
    let (u, v) = (minus(a[1], a[0]), minus(b[1], b[0]));
    let area = u[0] * v[1] - u[1] * v[0];
    let gap = minus(b[0], a[0]);
    let (s, t) = (
        (gap[0] * v[1] - gap[1] * v[0]) / area,
        (gap[0] * u[1] - gap[1] * u[0]) / area,
    );
    let inside = |part: f64| (0.0..=1.0).contains(&part);
    (area.abs() > 1e-9 && inside(s) && inside(t)).then(|| [a[0][0] + s * u[0], a[0][1] + s * u[1]])
}

fn minus(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roads::Roads;

    #[test]
    fn seed_decides_the_town() {
        assert_eq!(generate(1), generate(1));
        assert_ne!(generate(1).nodes, generate(2).nodes);
        assert_eq!(generate(3).attribution, "generated");
    }

    #[test]
    fn towns_lie_in_all_quarters() {
        let quarter = |seed| {
            let [lon, lat] = generate(seed).nodes[0];
            (lat > 0.0, lon > 0.0)
        };
        let quarters: std::collections::HashSet<_> = (0..8).map(quarter).collect();
        assert_eq!(quarters.len(), 4);
    }

    #[test]
    fn every_road_leads_everywhere() {
        for seed in 1..6 {
            let graph = generate(seed);
            let count = graph.nodes.len();
            for forward in [true, false] {
                let mut onward = vec![Vec::new(); count];
                for edge in &graph.edges {
                    let ends = (
                        edge.nodes[0] as usize,
                        edge.nodes[edge.nodes.len() - 1] as usize,
                    );
                    if forward || !edge.oneway {
                        onward[ends.0].push(ends.1);
                    }
                    if !forward || !edge.oneway {
                        onward[ends.1].push(ends.0);
                    }
                }
                let start = graph.edges[0].nodes[0] as usize;
                let mut seen = vec![false; count];
                let mut open = vec![start];
                while let Some(at) = open.pop() {
                    if !std::mem::replace(&mut seen[at], true) {
                        open.extend(&onward[at]);
                    }
                }
                let ends = graph.edges.iter().map(|edge| edge.nodes[0] as usize);
                let lost = ends.filter(|&vertex| !seen[vertex]).count();
                assert_eq!(lost, 0, "seed {seed}, forward {forward}");
            }
        }
    }

    #[test]
    fn town_has_all_its_parts_and_size() {
        let graph = generate(1);
        for class in ["primary", "secondary", "residential", MOTORWAY] {
            assert!(
                graph.edges.iter().any(|edge| edge.class == class),
                "{class}"
            );
        }
        let roads = Roads::new(graph).unwrap();
        let metres: f64 = roads.lanes().iter().map(|&lane| roads.length(lane)).sum();
        assert!(metres > 60_000.0, "{metres}");
    }
}
