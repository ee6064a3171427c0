//! One live session for each device id (pure).
//!
//! A session belongs to the connection that sent the id's last message. The same id on another connection is a take-over:
//! usually a device that lost its link and came back before its old connection was found to be dead. Two devices with
//! one id would take over from each other for ever, so take-overs of an id are counted out as tokens are: one that may
//! not be yet leaves the session where it is.

use std::collections::HashMap;
use std::hash::RandomState;

use super::bucket::{Bucket, Rate};
use crate::frame::DeviceId;

/// Take-overs of one id: six at once, then one in ten seconds.
const TAKEOVERS: Rate = Rate::every(10_000_000_000, 6);

/// Sessions of ids that are not the first of their connections, as a gateway has that speaks for many devices; ids
/// beyond have none, and are taken as they come.
const FURTHER_SESSIONS_MAX: usize = 65_536;

/// The sessions of one sensor; `K` names a connection.
#[derive(Debug)]
pub struct Sessions<K> {
    /// At most one for each connection, and [`FURTHER_SESSIONS_MAX`]. Senders choose the keys, so their hash is keyed.
    held: HashMap<DeviceId, Held<K>, RandomState>,
    further: usize,
    further_max: usize,
}

#[derive(Debug)]
struct Held<K> {
    by: K,
    further: bool,
    takeovers: Bucket,
}

/// What became of a message's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered<K> {
    /// The connection had it already.
    Here,
    /// The connection has it now.
    New,
    /// The connection has it now; this one had it before.
    TakenFrom(K),
    /// Another connection has it, and the next take-over may be then, monotonic nanoseconds.
    Contested {
        /// When.
        until_ns: u64,
    },
    /// Another connection has it and keeps it while it is heard.
    Occupied,
    /// There is no room for further sessions.
    NoRoom,
}

impl<K: Copy + PartialEq> Sessions<K> {
    /// Nobody has one.
    pub fn new() -> Sessions<K> {
        Sessions {
            held: HashMap::with_hasher(RandomState::new()),
            further: 0,
            further_max: FURTHER_SESSIONS_MAX,
        }
    }

    /// A message of `device` came by `by`, for which it is a further id or the first. `may_take` says whether the
    /// session may be taken over from its holder.
    pub fn enter(
        &mut self,
        device: DeviceId,
        by: K,
        further: bool,
        now_ns: u64,
        may_take: impl FnOnce(K) -> bool,
    ) -> Entered<K> {
        let room = !further || self.further < self.further_max;
        let Some(held) = self.held.get_mut(&device) else {
            if !room {
                return Entered::NoRoom;
            }
            self.further += usize::from(further);
            let takeovers = Bucket::default();
            self.held.insert(
                device,
                Held {
                    by,
                    further,
                    takeovers,
                },
            );
            return Entered::New;
        };
        let before = held.by;
        if before == by {
            return Entered::Here;
        }
        if !may_take(before) {
            return Entered::Occupied;
        }
        if !room && !held.further {
            return Entered::NoRoom;
        }
        if let Err(until_ns) = held.takeovers.try_take(&TAKEOVERS, now_ns) {
            return Entered::Contested { until_ns };
        }
        self.further += usize::from(further);
        self.further -= usize::from(held.further);
        (held.by, held.further) = (by, further);
        Entered::TakenFrom(before)
    }

    /// The connection gives the session of this id up, if it is the one that has it.
    pub fn leave(&mut self, device: &DeviceId, by: K) {
        if let Some(held) = self.held.get(device).filter(|held| held.by == by) {
            self.further -= usize::from(held.further);
            self.held.remove(device);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn id(number: u32) -> DeviceId {
        DeviceId::new(number.to_string().as_bytes()).unwrap()
    }

    fn enter(sessions: &mut Sessions<u8>, device: u32, by: u8, now_s: u64) -> Entered<u8> {
        sessions.enter(id(device), by, false, now_s * SECOND_NS, |_| true)
    }

    #[test]
    fn who_comes_again_takes_over_and_who_had_it_can_give_up_nothing_any_more() {
        let mut sessions = Sessions::new();
        assert_eq!(enter(&mut sessions, 1, 7, 0), Entered::New);
        assert_eq!(enter(&mut sessions, 1, 7, 0), Entered::Here);
        assert_eq!(enter(&mut sessions, 1, 8, 0), Entered::TakenFrom(7));
        sessions.leave(&id(1), 7);
        assert_eq!(enter(&mut sessions, 1, 8, 0), Entered::Here);
        sessions.leave(&id(1), 8);
        assert_eq!(enter(&mut sessions, 1, 9, 0), Entered::New);
    }

    #[test]
    fn two_with_one_id_take_over_six_times_and_then_once_in_ten_seconds() {
        let mut sessions = Sessions::new();
        enter(&mut sessions, 1, 0, 100);
        for turn in 1..=6 {
            let before = (turn + 1) % 2;
            assert_eq!(
                enter(&mut sessions, 1, turn % 2, 100),
                Entered::TakenFrom(before)
            );
        }
        let until_ns = 110 * SECOND_NS;
        assert_eq!(
            enter(&mut sessions, 1, 1, 100),
            Entered::Contested { until_ns }
        );
        assert_eq!(
            enter(&mut sessions, 1, 0, 101),
            Entered::Here,
            "it stays where it is"
        );
        assert_eq!(enter(&mut sessions, 1, 1, 110), Entered::TakenFrom(0));
        assert!(matches!(
            enter(&mut sessions, 1, 0, 111),
            Entered::Contested { .. }
        ));
        assert_eq!(
            enter(&mut sessions, 2, 0, 111),
            Entered::New,
            "other ids are not concerned"
        );
    }

    #[test]
    fn who_may_not_take_over_leaves_it_where_it_is() {
        let mut sessions = Sessions::new();
        enter(&mut sessions, 1, 7, 0);
        let occupied = sessions.enter(id(1), 8, false, 0, |before| before != 7);
        assert_eq!(occupied, Entered::Occupied);
        assert_eq!(enter(&mut sessions, 1, 7, 0), Entered::Here);
    }

    #[test]
    fn further_ids_have_a_limit_and_first_ones_have_not() {
        let mut sessions = Sessions::new();
        sessions.further_max = 2;
        let further =
            |sessions: &mut Sessions<u8>, device| sessions.enter(id(device), 1, true, 0, |_| true);
        assert_eq!(enter(&mut sessions, 0, 1, 0), Entered::New);
        assert_eq!(further(&mut sessions, 1), Entered::New);
        assert_eq!(further(&mut sessions, 2), Entered::New);
        assert_eq!(further(&mut sessions, 3), Entered::NoRoom);
        assert_eq!(enter(&mut sessions, 3, 2, 0), Entered::New);
        assert_eq!(enter(&mut sessions, 1, 3, 0), Entered::TakenFrom(1));
        assert_eq!(
            further(&mut sessions, 4),
            Entered::New,
            "one has become a first one"
        );
        assert_eq!(further(&mut sessions, 5), Entered::NoRoom);
    }

    proptest::proptest! {
        /// Whatever comes and goes, an id has one holder, and the count of further sessions is that of the table.
        #[test]
        fn an_id_has_one_holder_and_what_is_counted_is_there(
            steps in proptest::collection::vec((0_u32..6, 0_u8..4, proptest::bool::ANY, proptest::bool::ANY), 0..200),
        ) {
            let mut sessions = Sessions::new();
            sessions.further_max = 3;
            let mut holders = HashMap::new();
            for (step, (device, by, further, leaves)) in steps.into_iter().enumerate() {
                if leaves {
                    sessions.leave(&id(device), by);
                    if holders.get(&device) == Some(&by) {
                        holders.remove(&device);
                    }
                } else {
                    match sessions.enter(id(device), by, further, step as u64 * SECOND_NS, |_| true) {
                        Entered::New => assert_eq!(holders.insert(device, by), None),
                        Entered::TakenFrom(before) => assert_eq!(holders.insert(device, by), Some(before)),
                        Entered::Here => assert_eq!(holders.get(&device), Some(&by)),
                        Entered::Contested { .. } => assert_ne!(holders.get(&device), Some(&by)),
                        Entered::NoRoom => assert!(further),
                        Entered::Occupied => unreachable!("all may take over"),
                    }
                }
                let counted = sessions.held.values().filter(|held| held.further).count();
                assert_eq!(sessions.further, counted);
                assert!(counted <= 3);
                assert_eq!(sessions.held.len(), holders.len());
            }
        }
    }
}
