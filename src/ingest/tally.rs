//! What an ingest counts.

use super::connection::Closed;
use super::publishing::Figures;
use crate::protocol::Reject;

/// The statistics page of an ingest, as its loops fill it.
#[derive(Debug, Default)]
pub struct Tally {
    pub refused: u64,
    pub closed: Vec<Closed>,
    pub accepted: u64,
    pub messages: u64,
    pub ring_full: u64,
    pub answers_full: u64,
    pub answered: u64,
    pub outcomes: [u64; 2],
}

impl Tally {
    pub fn refused(&mut self, _reason: Reject) {
        self.refused += 1;
    }
    pub fn closed(&mut self, why: Closed) {
        self.closed.push(why);
    }
    pub fn accepted(&mut self, count: u32) {
        self.accepted += u64::from(count);
    }
    pub fn message(&mut self) {
        self.messages += 1;
    }
    pub fn bytes(&mut self, _bytes: usize) {}
    pub fn settled(&mut self, accepted: bool) {
        self.outcomes[usize::from(accepted)] += 1;
    }
    pub fn ring_full(&mut self) {
        self.ring_full += 1;
    }
    pub fn answers_full(&mut self) {
        self.answers_full += 1;
    }
    pub fn answered(&mut self) {
        self.answered += 1;
    }
    pub fn beat(&mut self, _open: u32, _awaited: usize, _figures: Figures) {}
}
