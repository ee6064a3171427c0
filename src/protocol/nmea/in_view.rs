//! How many satellites are in view: each system says it for itself, in sentences without a time.

/// Systems that are counted.
const SYSTEMS_MAX: usize = 8;

/// Epochs after which a count that is not repeated is forgotten; some receivers repeat it in every fifth.
const EPOCHS_MAX: u8 = 10;

/// What the last cycle of such sentences said.
#[derive(Default)]
pub(super) struct InView {
    /// Talker and count of each system in the cycle that runs.
    systems: [([u8; 2], u8); SYSTEMS_MAX],
    total: Option<u8>,
    /// Epochs since the total was said.
    age_epochs: u8,
}

impl InView {
    /// Takes one system's count. It comes in several sentences, and again for each of the system's signals.
    pub(super) fn take(&mut self, talker: [u8; 2], count: u8) {
        let place = self
            .systems
            .iter_mut()
            .find(|(known, _)| *known == talker || *known == [0; 2]);
        if let Some((known, most)) = place {
            *known = talker;
            *most = count.max(*most);
        }
    }

    /// Ends an epoch, and the cycle if one ran.
    pub(super) fn end_epoch(&mut self) {
        if self.systems[0].0 != [0; 2] {
            let counts = self.systems.iter().map(|&(_, count)| count);
            self.total = Some(counts.fold(0, u8::saturating_add));
            self.systems = Default::default();
            self.age_epochs = 0;
        } else if self.age_epochs < EPOCHS_MAX {
            self.age_epochs += 1;
        } else {
            self.total = None;
        }
    }

    /// Satellites in view of all systems, if they were said not long ago.
    pub(super) fn total(&self) -> Option<u8> {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_of_a_cycle_are_added_up_and_its_signals_are_not() {
        let mut in_view = InView::default();
        for (talker, count) in [(b"GP", 10), (b"GP", 10), (b"GL", 7), (b"GP", 4)] {
            in_view.take(*talker, count);
        }
        assert_eq!(in_view.total(), None, "the cycle may go on");
        in_view.end_epoch();
        assert_eq!(in_view.total(), Some(17));
        // GLONASS is switched off.
        in_view.take(*b"GP", 9);
        in_view.end_epoch();
        assert_eq!(in_view.total(), Some(9));
    }

    #[test]
    fn a_count_that_is_not_repeated_is_forgotten() {
        let mut in_view = InView::default();
        in_view.take(*b"GP", 9);
        in_view.end_epoch();
        for _ in 0..EPOCHS_MAX {
            assert_eq!(in_view.total(), Some(9));
            in_view.end_epoch();
        }
        in_view.end_epoch();
        assert_eq!(in_view.total(), None);
    }

    #[test]
    fn more_systems_than_there_are_do_no_harm() {
        let mut in_view = InView::default();
        for talker in 0..=255 {
            in_view.take([b'G', talker], 255);
        }
        in_view.end_epoch();
        assert_eq!(in_view.total(), Some(255));
    }
}
