//! Road graphs: the JSON form that maps and fleets share, and the directed form that vehicles drive on.
//!
//! Promises that every lane leads to a vertex from which it goes on: at a dead end a vehicle turns round, whatever
//! the sign says, because a vehicle that vanishes is worse than one that breaks a rule. Finding the way is
//! [`Roads::route`]; how fast one drives is the vehicle's matter.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Most vertices of a graph.
pub const VERTICES_MAX: usize = 1_000_000;
/// Metres of one degree of latitude, as good as the flat map needs it.
const METRES_A_DEGREE: f64 = 111_195.08;

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
        let mut starts = Vec::new();
        for (index, edge) in graph.edges.iter().enumerate() {
            let known = edge.nodes.iter().all(|&node| (node as usize) < vertices);
            if !known || edge.nodes.len() < 2 || edge.kmh.is_nan() || edge.kmh <= 0.0 {
                return Err(RoadsError::Edge(index));
            }
            let pairs = edge.nodes.windows(2);
            lengths.push(pairs.map(|w| distance(&flat, w[0], w[1])).sum::<f64>());
            let forward = Lane(2 * index as u32);
            starts.push((edge.nodes[0], forward));
            if !edge.oneway {
                starts.push((edge.nodes[edge.nodes.len() - 1], forward.reverse()));
            }
        }
        if lengths.iter().all(|&length| length < 1.0) {
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

    /// Count of a lane's vertices, at least two.
    pub fn points(&self, lane: Lane) -> usize {
        self.edge(lane).nodes.len()
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
        let end = self.vertex(lane, self.points(lane) - 1) as usize;
        let range = self.first[end] as usize..self.first[end + 1] as usize;
        let ways = self.leaving[range].iter().copied();
        let ways = ways.filter(move |&way| way != lane.reverse());
        let dead_end = ways.clone().next().is_none();
        ways.chain(dead_end.then_some(lane.reverse()))
    }

    /// Direction at the first (`false`) or last (`true`) piece of a lane, radians clockwise from north.
    pub fn heading(&self, lane: Lane, last: bool) -> f64 {
        let at = if last { self.points(lane) - 2 } else { 0 };
        self.heading_between(self.vertex(lane, at), self.vertex(lane, at + 1))
    }

    /// Direction from one vertex to another, radians clockwise from north.
    pub fn heading_between(&self, from: u32, to: u32) -> f64 {
        let (a, b) = (self.flat(from), self.flat(to));
        (b[0] - a[0]).atan2(b[1] - a[1])
    }

    /// Metres between two vertices.
    pub fn distance(&self, from: u32, to: u32) -> f64 {
        distance(&self.flat, from, to)
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

fn distance(flat: &[[f64; 2]], from: u32, to: u32) -> f64 {
    let (a, b) = (flat[from as usize], flat[to as usize]);
    (b[0] - a[0]).hypot(b[1] - a[1])
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
        let north = roads.distance(1, 2);
        assert!((north - 1111.95).abs() < 0.1, "{north}");
        let east = roads.distance(0, 1);
        assert!(
            (east - 1111.95 * 50.007_f64.to_radians().cos()).abs() < 1.0,
            "{east}"
        );
        assert!(
            roads.heading(Lane(2), false).abs() < 1e-9,
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
