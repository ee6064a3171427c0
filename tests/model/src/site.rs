//! Places in the source that hold the protocol together: a fence, an access that is not relaxed, a bell.
//!
//! They are found by passing them. One of them can be weakened for a whole process: the fence and the bell do nothing,
//! the access is relaxed.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::panic::Location;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

/// Such a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    file: String,
    line: u32,
    column: u32,
    what: String,
}

impl Site {
    fn new(place: &Location<'_>, what: String) -> Site {
        Site {
            file: from_root(place.file()),
            line: place.line(),
            column: place.column(),
            what,
        }
    }

    /// The file, from the root of the source tree.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// `file:line:column`, by which [`weaken`] finds it.
    pub fn place(&self) -> String {
        format!("{}:{}:{}", self.file, self.line, self.column)
    }
}

/// The way to an included file, by which the compiler names it, as the source tree names it: by what follows.
pub fn from_root(way: &str) -> String {
    let way = way.replace('\\', "/");
    let file = way.rsplit_once("../").map_or(&*way, |(_, file)| file);
    file.into()
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.file, self.line, self.what)
    }
}

static WEAKENED: OnceLock<String> = OnceLock::new();

thread_local! {
    static SEEN: RefCell<BTreeSet<(usize, u8)>> = const { RefCell::new(BTreeSet::new()) };
    static PASSED: RefCell<BTreeSet<Site>> = const { RefCell::new(BTreeSet::new()) };
}

/// From now on the place named `file:line:column` does nothing for the order.
pub fn weaken(place: String) {
    WEAKENED
        .set(place)
        .expect("one place is weakened at a time");
}

/// The places that this thread's models passed.
pub fn passed() -> BTreeSet<Site> {
    PASSED.with_borrow(Clone::clone)
}

/// What is left of the order that an access at `place` asks for.
pub fn order(place: &'static Location<'static>, access: &str, asked: Ordering) -> Ordering {
    if asked != Ordering::Relaxed && pass(place, asked as u8, || format!("{access} {asked:?}")) {
        Ordering::Relaxed
    } else {
        asked
    }
}

/// Whether the fence at `place` stays.
pub fn fence_stays(place: &'static Location<'static>, asked: Ordering) -> bool {
    !pass(place, 16 + asked as u8, || format!("fence {asked:?}"))
}

/// Whether the bell at `place` is rung.
pub fn bell_stays(place: &'static Location<'static>) -> bool {
    !pass(place, 32, || "bell".into())
}

/// Notes a place; whether it is the weakened one.
fn pass(place: &'static Location<'static>, kind: u8, what: impl FnOnce() -> String) -> bool {
    let key = (std::ptr::from_ref(place).addr(), kind);
    // Models pass the same few places millions of times.
    if SEEN.with_borrow_mut(|seen| seen.insert(key)) {
        let site = Site::new(place, what());
        PASSED.with_borrow_mut(|passed| passed.insert(site));
    }
    WEAKENED
        .get()
        .is_some_and(|weakened| *weakened == Site::new(place, String::new()).place())
}
