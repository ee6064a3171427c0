//! Whose turn it is in a round: proven connections are read first, and of all others only so many, in turn, so that a crowd
//! of them does not make a round long (pure).

/// Unproven connections that are read in a round.
const UNPROVEN_MAX: usize = 32;

/// Those that wait for their turn in a round, and where the last one ended.
#[derive(Debug, Default)]
pub struct Turns {
    /// Places in the list of events.
    waiting: Vec<usize>,
    /// How many of `waiting` had their turn.
    taken: usize,
    /// Where in `waiting` the round begins: the kernel reports in the same order again what was not read.
    from: usize,
}

impl Turns {
    /// A round begins, and nobody waits.
    pub fn begin(&mut self) {
        self.from = self.from.wrapping_add(self.taken);
        self.taken = 0;
        self.waiting.clear();
    }

    /// The unproven connection at this place has something.
    pub fn wait(&mut self, at: usize) {
        self.waiting.push(at);
    }

    /// The place of the next one whose turn it is in this round.
    pub fn take(&mut self) -> Option<usize> {
        if self.taken >= self.waiting.len().min(UNPROVEN_MAX) {
            return None;
        }
        let at = self.from.wrapping_add(self.taken) % self.waiting.len();
        self.taken += 1;
        Some(self.waiting[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One round in which these wait.
    fn round(turns: &mut Turns, count: usize) -> Vec<usize> {
        turns.begin();
        (0..count).for_each(|at| turns.wait(at));
        std::iter::from_fn(|| turns.take()).collect()
    }

    #[test]
    fn as_long_as_they_are_few_all_have_their_turn() {
        let mut turns = Turns::default();
        for count in [0, 1, 5, UNPROVEN_MAX] {
            let mut all = round(&mut turns, count);
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn of_many_that_always_have_something_each_has_its_turn_in_time() {
        let many = 10 * UNPROVEN_MAX + 7;
        let mut turns = Turns::default();
        let mut had = vec![false; many];
        for _ in 0..many.div_ceil(UNPROVEN_MAX) {
            let taken = round(&mut turns, many);
            assert_eq!(taken.len(), UNPROVEN_MAX);
            taken.into_iter().for_each(|at| had[at] = true);
        }
        assert!(had.iter().all(|&had| had), "{had:?}");
    }
}
