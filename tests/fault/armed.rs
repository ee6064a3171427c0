//! Fail points of a node, armed and watched from outside.

use ringway::sys::fail::Point;

use crate::node::Node;

impl Node {
    /// Makes a node that is started from now on heed fail points.
    pub fn heed_fail_points(&self) {
        std::fs::create_dir_all(self.fail_folder()).unwrap();
    }

    /// Has whoever passes a point for the n-th time from now on die there.
    pub fn arm(&self, point: Point, passings: u64) {
        let armed = self.fail_folder().join(point.name());
        let made = armed.with_extension("new");
        std::fs::write(&made, passings.to_string()).unwrap();
        std::fs::rename(made, armed).unwrap();
    }

    /// Whether somebody died at a point since this was asked last.
    pub fn fired(&self, point: Point) -> bool {
        let fired = self.fail_folder().join(format!("{}.fired", point.name()));
        std::fs::remove_file(fired).is_ok()
    }
}
