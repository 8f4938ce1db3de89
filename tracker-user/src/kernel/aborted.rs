//! Requests that clients reset, as the detector is shown them: no more than the kernel says it ended.
//!
//! The packet programs see resets before TCP does. Whoever floods could send a reset after each SYN that TCP then does
//! not take, such as one with a wrong checksum. The namespace's count of resets that ended a request (`EmbryonicRsts`)
//! bounds them all.

use std::collections::HashMap;

use tracker_model::counters::NamespaceCounters;

/// What is kept between two readings.
#[derive(Default)]
pub struct Aborted {
    /// The namespace's count at the last reading.
    resets: Option<u64>,
    /// What is left of what it grew by, at this reading and at the one before.
    left: [u64; 2],
    /// By slot: the count of the sample at the last reading, what is not yet believed of it, and what is.
    slots: HashMap<u32, Slot>,
}

#[derive(Default)]
struct Slot {
    seen: u64,
    waiting: u64,
    believed: u64,
}

impl Aborted {
    /// A reading begins. Without the namespace's counters nothing is believed.
    pub fn resets(&mut self, namespace: Option<NamespaceCounters>) {
        let now = namespace.map(|counters| counters.embryonic_resets);
        let new = match (now, self.resets) {
            (Some(now), Some(before)) => now.saturating_sub(before),
            _ => 0,
        };
        self.resets = now.or(self.resets);
        self.left = [new, self.left[0]];
    }

    /// Resets that ended a request of this slot; `seen` is what the sample has of it.
    pub fn of(&mut self, slot: u32, seen: u64) -> u64 {
        let kept = self.slots.entry(slot).or_default();
        if seen < kept.seen {
            // The slot was given to another listener.
            *kept = Slot::default();
        }
        // What the kernel has not counted by the next reading, it did not take.
        let new = seen - kept.seen;
        let mut due = new + kept.waiting;
        for left in self.left.iter_mut().rev() {
            let taken = due.min(*left);
            *left -= taken;
            due -= taken;
            kept.believed += taken;
        }
        (kept.seen, kept.waiting) = (seen, due.min(new));
        kept.believed
    }

    /// A slot was freed.
    pub fn forget(&mut self, slot: u32) {
        self.slots.remove(&slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resets(embryonic_resets: u64) -> NamespaceCounters {
        NamespaceCounters { embryonic_resets, ..NamespaceCounters::default() }
    }

    #[test]
    fn what_the_kernel_counts_too_is_believed() {
        let mut aborted = Aborted::default();
        aborted.resets(Some(resets(1_000)));
        assert_eq!((aborted.of(1, 0), aborted.of(2, 0)), (0, 0));
        aborted.resets(Some(resets(1_030)));
        assert_eq!((aborted.of(1, 20), aborted.of(2, 10)), (20, 10));
        // The kernel's count may be a moment late, or early.
        aborted.resets(Some(resets(1_030)));
        assert_eq!(aborted.of(1, 25), 20);
        aborted.resets(Some(resets(1_040)));
        assert_eq!(aborted.of(1, 25), 25);
        aborted.resets(Some(resets(1_040)));
        assert_eq!(aborted.of(1, 30), 30);
    }

    #[test]
    fn what_the_kernel_did_not_take_is_not() {
        let mut aborted = Aborted::default();
        aborted.resets(Some(resets(7)));
        for reading in 1..20 {
            aborted.resets(Some(resets(7 + reading)));
            assert!(aborted.of(1, reading * 1_000) <= reading + 1, "one a reading was real");
        }
        assert_eq!(aborted.of(1, 5), 0, "the slot is another listener's");
        aborted.resets(None);
        assert_eq!(aborted.of(1, 9), 0);
    }
}
