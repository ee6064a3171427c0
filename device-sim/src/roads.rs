//! Road graphs: the JSON form that maps and fleets share, and the directed form that vehicles drive on.
//!
//! Promises that every lane leads to a vertex from which it goes on: at a dead end a vehicle turns round, whatever
//! the sign says, because a vehicle that vanishes is worse than one that breaks a rule. Finding the way is
//! [`Roads::route`]; how fast one drives is the vehicle's matter.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::f64::consts::{PI, TAU};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Most vertices of a graph.
pub const VERTICES_MAX: usize = 1_000_000;
/// Metres of one degree of latitude, as good as the flat map needs it.
const METRES_A_DEGREE: f64 = 111_195.08;
/// Sideways acceleration in bends, m/s2: what passengers still find pleasant.
const SIDEWAYS_MPS2: f64 = 2.5;
/// A corner is driven as a bend over this many metres.
const CORNER_M: f64 = 10.0;

/// Why a graph cannot be driven on.
#[derive(Debug, thiserror::Error)]
pub enum RoadsError {
    /// The file cannot be read.
    #[error("cannot read roads {path:?}: {cause}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It is not a road graph.
    #[error("cannot parse roads {path:?}: {cause}")]
    Parse {
        /// The file.
        path: String,
        /// Where and why.
        cause: serde_json::Error,
    },
    /// It has no edge, or more than [`VERTICES_MAX`] vertices.
    #[error("cannot drive on roads: {0} vertices and {1} edges")]
    Size(usize, usize),
    /// An edge names a vertex that is not there, or has no length.
    #[error("cannot drive on roads: edge {0} is broken")]
    Edge(usize),
}

/// A graph as files hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// What it shows.
    pub name: String,
    /// The line that whoever shows it must show.
    pub attribution: String,
    /// `[longitude, latitude]` in degrees.
    pub nodes: Vec<[f64; 2]>,
    /// From junction to junction.
    pub edges: Vec<Edge>,
}

/// A road between two junctions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// Such as `motorway` or `residential`.
    pub class: String,
    /// Its name; may be empty.
    pub name: String,
    /// The limit, or a usual speed, in km/h.
    pub kmh: f64,
    /// Only from the first node to the last.
    pub oneway: bool,
    /// Indices into [`Graph::nodes`], at least two.
    pub nodes: Vec<u32>,
}

/// One direction of an edge: an index into the lanes of [`Roads`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane(u32);

/// A graph ready to drive on.
#[derive(Debug)]
pub struct Roads {
    graph: Graph,
    /// Metres east and north of the middle, by vertex.
    flat: Vec<[f64; 2]>,
    /// Arcs that leave a vertex: `leaving[first[v]..first[v + 1]]`.
    first: Vec<u32>,
    leaving: Vec<Lane>,
    /// Metres, by edge.
    lengths: Vec<f64>,
    /// The pieces of edge `e`: `pieces[piece_of[e]..piece_of[e + 1]]`.
    pieces: Vec<Piece>,
    piece_of: Vec<u32>,
}

/// The straight part of an edge between two of its vertices.
#[derive(Clone, Copy, Debug)]
struct Piece {
    length_m: f64,
    /// Radians clockwise from north, along the edge.
    heading: f64,
    /// How fast a careful driver takes the bend at its end, m/s.
    bend_mps: f64,
}

impl Roads {
    /// Reads a graph from a file.
    ///
    /// # Errors
    /// When the file cannot be read or is no usable graph.
    pub fn load(path: &Path) -> Result<Roads, RoadsError> {
        let text = std::fs::read_to_string(path).map_err(|cause| RoadsError::Read {
            path: path.display().to_string(),
            cause,
        })?;
        let graph = serde_json::from_str(&text).map_err(|cause| RoadsError::Parse {
            path: path.display().to_string(),
            cause,
        })?;
        Roads::new(graph)
    }

    /// Prepares a graph.
    ///
    /// # Errors
    /// When it is empty, too large or refers to what is not there.
    pub fn new(graph: Graph) -> Result<Roads, RoadsError> {
        let vertices = graph.nodes.len();
        if graph.edges.is_empty() || vertices > VERTICES_MAX {
            return Err(RoadsError::Size(vertices, graph.edges.len()));
        }
        let flat = flatten(&graph.nodes);
        let mut lengths = Vec::with_capacity(graph.edges.len());
        let (mut starts, mut pieces, mut piece_of) = (Vec::new(), Vec::new(), vec![0]);
        for (index, edge) in graph.edges.iter().enumerate() {
            let known = edge.nodes.iter().all(|&node| (node as usize) < vertices);
            if !known || edge.nodes.len() < 2 || edge.kmh.is_nan() || edge.kmh <= 0.0 {
                return Err(RoadsError::Edge(index));
            }
            let first = pieces.len();
            pieces.extend(edge.nodes.windows(2).map(|w| Piece::new(&flat, w[0], w[1])));
            for at in first + 1..pieces.len() {
                pieces[at - 1].bend_mps = bend_mps(&pieces[at - 1], &pieces[at]);
            }
            lengths.push(pieces[first..].iter().map(|piece| piece.length_m).sum());
            piece_of.push(pieces.len() as u32);
            let forward = Lane(2 * index as u32);
            starts.push((edge.nodes[0], forward));
            if !edge.oneway {
                starts.push((edge.nodes[edge.nodes.len() - 1], forward.reverse()));
            }
        }
        if lengths.iter().sum::<f64>() < 1.0 {
            return Err(RoadsError::Edge(0));
        }
        starts.sort_by_key(|&(vertex, lane)| (vertex, lane.0));
        let mut first = vec![0; vertices + 1];
        starts.iter().for_each(|&(v, _)| first[v as usize + 1] += 1);
        (0..vertices).for_each(|v| first[v + 1] += first[v]);
        let leaving = starts.into_iter().map(|(_, lane)| lane).collect();
        Ok(Roads {
            graph,
            flat,
            first,
            leaving,
            lengths,
            pieces,
            piece_of,
        })
    }

    /// The graph as it was read.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Every lane that may be driven.
    pub fn lanes(&self) -> &[Lane] {
        &self.leaving
    }

    /// The edge of a lane.
    pub fn edge(&self, lane: Lane) -> &Edge {
        &self.graph.edges[lane.edge()]
    }

    /// Length of a lane in metres.
    pub fn length(&self, lane: Lane) -> f64 {
        self.lengths[lane.edge()]
    }

    /// The `n`-th vertex of a lane in its direction.
    pub fn vertex(&self, lane: Lane, n: usize) -> u32 {
        let nodes = &self.edge(lane).nodes;
        if lane.backward() {
            nodes[nodes.len() - 1 - n]
        } else {
            nodes[n]
        }
    }

    /// Metres east and north of the graph's middle.
    pub fn flat(&self, vertex: u32) -> [f64; 2] {
        self.flat[vertex as usize]
    }

    /// Longitude and latitude in degrees, `part` (0 to 1) of the way between two vertices.
    pub fn degrees(&self, from: u32, to: u32, part: f64) -> [f64; 2] {
        let (a, b) = (
            self.graph.nodes[from as usize],
            self.graph.nodes[to as usize],
        );
        [a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part]
    }

    /// Arcs on which one may go on at the end of `lane`; turning round is among them only if nothing else is.
    pub fn onward(&self, lane: Lane) -> impl Iterator<Item = Lane> + Clone {
        let end = self.vertex(lane, self.pieces(lane)) as usize;
        let range = self.first[end] as usize..self.first[end + 1] as usize;
        let ways = self.leaving[range].iter().copied();
        let ways = ways.filter(move |&way| way != lane.reverse());
        let dead_end = ways.clone().next().is_none();
        ways.chain(dead_end.then_some(lane.reverse()))
    }

    /// Count of a lane's straight pieces, at least one.
    pub fn pieces(&self, lane: Lane) -> usize {
        self.edge(lane).nodes.len() - 1
    }

    /// Length of a lane's `n`-th piece in metres.
    pub fn piece_m(&self, lane: Lane, n: usize) -> f64 {
        self.piece(lane, n).length_m
    }

    /// Direction of a lane's `n`-th piece, radians clockwise from north.
    pub fn heading(&self, lane: Lane, n: usize) -> f64 {
        let heading = self.piece(lane, n).heading;
        if lane.backward() {
            heading + PI
        } else {
            heading
        }
    }

    /// How fast a careful driver takes the bend at the end of a lane's `n`-th piece, m/s; for its last piece that
    /// into `next`.
    pub fn bend_mps(&self, lane: Lane, n: usize, next: Lane) -> f64 {
        match (n + 1 < self.pieces(lane), lane.backward()) {
            (true, false) => self.piece(lane, n).bend_mps,
            (true, true) => self.piece(lane, n + 1).bend_mps,
            (false, _) => {
                let turn = turn(self.heading(lane, n), self.heading(next, 0));
                speed_in_bend(turn, CORNER_M)
            }
        }
    }

    fn piece(&self, lane: Lane, n: usize) -> &Piece {
        let edge = lane.edge();
        let at = match lane.backward() {
            true => self.piece_of[edge + 1] as usize - 1 - n,
            false => self.piece_of[edge] as usize + n,
        };
        &self.pieces[at]
    }

    /// The fastest way to go on from `lane` to the end of `goal`, last lane first; empty if there is none.
    pub fn route(&self, lane: Lane, goal: Lane) -> Vec<Lane> {
        let count = 2 * self.graph.edges.len();
        let mut came: Vec<u32> = vec![u32::MAX; count];
        let mut best: Vec<u64> = vec![u64::MAX; count];
        let mut open = BinaryHeap::from([Reverse((0, lane.0))]);
        best[lane.0 as usize] = 0;
        while let Some(Reverse((cost, at))) = open.pop() {
            if at == goal.0 {
                break;
            }
            if cost > best[at as usize] {
                continue;
            }
            for way in self.onward(Lane(at)) {
                let millis = self.length(way) * 3600.0 / self.edge(way).kmh;
                let sum = cost + millis as u64 + 1;
                if sum < best[way.0 as usize] {
                    best[way.0 as usize] = sum;
                    came[way.0 as usize] = at;
                    open.push(Reverse((sum, way.0)));
                }
            }
        }
        let mut route = Vec::new();
        let mut at = goal.0;
        while at != lane.0 {
            route.push(Lane(at));
            at = came[at as usize];
            if at == u32::MAX {
                return Vec::new();
            }
        }
        route
    }
}

impl Lane {
    fn edge(self) -> usize {
        (self.0 / 2) as usize
    }

    fn backward(self) -> bool {
        self.0 % 2 == 1
    }

    /// The other direction of the same edge.
    pub fn reverse(self) -> Lane {
        Lane(self.0 ^ 1)
    }
}

/// Turns degrees into metres around the middle; good for areas of some tens of kilometres.
fn flatten(nodes: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let count = nodes.len().max(1) as f64;
    let middle = [
        nodes.iter().map(|n| n[0]).sum::<f64>() / count,
        nodes.iter().map(|n| n[1]).sum::<f64>() / count,
    ];
    let east = METRES_A_DEGREE * middle[1].to_radians().cos();
    let metres = |n: &[f64; 2]| {
        [
            (n[0] - middle[0]) * east,
            (n[1] - middle[1]) * METRES_A_DEGREE,
        ]
    };
    nodes.iter().map(metres).collect()
}

impl Piece {
    fn new(flat: &[[f64; 2]], from: u32, to: u32) -> Piece {
        let (a, b) = (flat[from as usize], flat[to as usize]);
        Piece {
            length_m: (b[0] - a[0]).hypot(b[1] - a[1]),
            heading: (b[0] - a[0]).atan2(b[1] - a[1]),
            bend_mps: f64::INFINITY,
        }
    }
}

/// Speed through the bend between two pieces that stand for a curve.
fn bend_mps(before: &Piece, after: &Piece) -> f64 {
    let reach = before.length_m.min(after.length_m).max(CORNER_M);
    speed_in_bend(turn(before.heading, after.heading), reach)
}

/// Speed at which a turn by an angle over `reach` metres costs [`SIDEWAYS_MPS2`].
fn speed_in_bend(turn: f64, reach: f64) -> f64 {
    (SIDEWAYS_MPS2 * reach / turn.max(1e-6)).sqrt()
}

/// Angle between two directions, 0 to pi.
pub fn turn(before: f64, after: f64) -> f64 {
    let angle = (after - before).rem_euclid(TAU);
    angle.min(TAU - angle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(nodes: &[u32], kmh: f64, oneway: bool) -> Edge {
        let (class, name) = ("residential".to_string(), String::new());
        Edge {
            class,
            name,
            kmh,
            oneway,
            nodes: nodes.to_vec(),
        }
    }

    /// A square of 0.01 degree with a slow direct edge 0-2 and a dead end 2-4.
    fn square() -> Graph {
        Graph {
            name: "square".into(),
            attribution: "none".into(),
            nodes: vec![
                [10.0, 50.0],
                [10.01, 50.0],
                [10.01, 50.01],
                [10.0, 50.01],
                [10.02, 50.02],
            ],
            edges: vec![
                edge(&[0, 1], 50.0, false),
                edge(&[1, 2], 50.0, true),
                edge(&[2, 3], 50.0, false),
                edge(&[3, 0], 50.0, false),
                edge(&[0, 2], 5.0, false),
                edge(&[2, 4], 50.0, true),
            ],
        }
    }

    #[test]
    fn degrees_become_metres() {
        let roads = Roads::new(square()).unwrap();
        let north = roads.length(Lane(2));
        assert!((north - 1111.95).abs() < 0.1, "{north}");
        let east = roads.length(Lane(0));
        assert!(
            (east - 1111.95 * 50.007_f64.to_radians().cos()).abs() < 1.0,
            "{east}"
        );
        assert!(
            roads.heading(Lane(2), 0).abs() < 1e-9,
            "edge 1-2 leads north"
        );
    }

    #[test]
    fn dead_end_turns_round_even_against_the_sign() {
        let roads = Roads::new(square()).unwrap();
        let dead_end = Lane(10);
        let ways: Vec<Lane> = roads.onward(dead_end).collect();
        assert_eq!(ways, [dead_end.reverse()]);
        let ways: Vec<Lane> = roads.onward(Lane(2)).collect();
        assert_eq!(
            ways,
            [Lane(4), Lane(9), Lane(10)],
            "no way back on a one-way edge"
        );
    }

    #[test]
    fn route_takes_the_fast_way_round() {
        let roads = Roads::new(square()).unwrap();
        // From 3 -> 0 to 2 -> 4: over 1, because the direct edge is ten times slower.
        assert_eq!(roads.route(Lane(6), Lane(10)), [Lane(10), Lane(2), Lane(0)]);
    }

    #[test]
    fn broken_graphs_are_refused() {
        let mut graph = square();
        graph.edges[3].nodes[1] = 9;
        assert!(matches!(Roads::new(graph), Err(RoadsError::Edge(3))));
        let mut graph = square();
        graph.edges.clear();
        assert!(matches!(Roads::new(graph), Err(RoadsError::Size(5, 0))));
    }
}
