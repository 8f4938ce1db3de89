//! Alerts that are remembered, and the numbers that they have.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tracker_model::api::{Alert, AlertState};

/// Entries that a ledger remembers.
pub const MOST: usize = 256;

/// Where alerts get their numbers. Whoever holds a clone draws from the same ones, so that no two alerts of whatever kind
/// have the same.
#[derive(Clone, Debug, Default)]
pub struct AlertIds(Arc<AtomicU64>);

impl AlertIds {
    /// A number that was never given before; the first is 1.
    #[must_use]
    pub fn draw(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What a ledger keeps.
pub trait Entry {
    /// Its number.
    fn id(&self) -> u64;

    /// Gives it its number.
    fn number(&mut self, id: u64);

    /// Whether it is over, so that it may be forgotten.
    fn is_over(&self) -> bool;
}

impl Entry for Alert {
    fn id(&self) -> u64 {
        self.id
    }

    fn number(&mut self, id: u64) {
        self.id = id;
    }

    fn is_over(&self) -> bool {
        self.state == AlertState::Resolved
    }
}

/// Entries in the order in which they were put down.
#[derive(Debug)]
pub struct Ledger<T> {
    entries: VecDeque<T>,
    ids: AlertIds,
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self::new(AlertIds::default())
    }
}

impl<T> Ledger<T> {
    /// An empty one that takes its numbers from `ids`.
    #[must_use]
    pub fn new(ids: AlertIds) -> Self {
        Self { entries: VecDeque::new(), ids }
    }
}

impl<T: Entry> Ledger<T> {
    /// Puts down a new entry and gives it its number. When there is no room the oldest that is over is forgotten; when none
    /// is over, the new one is not kept: those before it are no less urgent.
    pub fn open(&mut self, mut entry: T) -> u64 {
        let id = self.ids.draw();
        if self.entries.len() == MOST
            && let Some(index) = self.entries.iter().position(Entry::is_over)
        {
            self.entries.remove(index);
        }
        if self.entries.len() < MOST {
            entry.number(id);
            self.entries.push_back(entry);
        }
        id
    }

    /// An entry, unless it is forgotten.
    pub fn get(&mut self, id: u64) -> Option<&mut T> {
        self.entries.iter_mut().rev().find(|entry| entry.id() == id)
    }

    /// Those that go on first, then those that are over, each newest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let going_on = self.entries.iter().rev().filter(|entry| !entry.is_over());
        going_on.chain(self.entries.iter().rev().filter(|entry| entry.is_over()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Note(u64, bool);

    impl Entry for Note {
        fn id(&self) -> u64 {
            self.0
        }

        fn number(&mut self, id: u64) {
            self.0 = id;
        }

        fn is_over(&self) -> bool {
            self.1
        }
    }

    #[test]
    fn the_oldest_that_is_over_makes_room() {
        let mut ledger = Ledger::default();
        let first = ledger.open(Note(0, false));
        for _ in 0..300 {
            ledger.open(Note(0, true));
        }
        let ids: Vec<_> = ledger.iter().map(Entry::id).collect();
        assert_eq!((ids.len(), ids[0], ids[1]), (MOST, first, 301));
        assert!(ledger.get(first).is_some() && ledger.get(2).is_none());
        for _ in 0..300 {
            ledger.open(Note(0, false));
        }
        assert_eq!(ledger.iter().count(), MOST);
        assert!(ledger.iter().all(|note| !note.is_over()));
    }

    #[test]
    fn two_ledgers_never_give_the_same_number() {
        let ids = AlertIds::default();
        let mut ledgers = [Ledger::new(ids.clone()), Ledger::new(ids)];
        let given: Vec<_> = (0..4).map(|turn| ledgers[turn % 2].open(Note(0, false))).collect();
        assert_eq!(given, [1, 2, 3, 4]);
    }
}
