//! What becomes of SYNs that do not reach TCP at their listener: while that question is open, the kernel is asked which
//! packets it drops, and why.

use std::{collections::HashMap, time::Duration};

use aya::Ebpf;
use tracker_model::listener::Listener;

use super::{
    drops::{Drops, PortCounts, Wanted, Watching},
    error::KernelError,
    floods::Open,
    maps::Maps,
};

/// Listeners that are asked about at a time: others wait, and `tracker explain listen` has places left.
const AT_ONCE: usize = 4;
/// For how long the kernel is asked: the programs run for each packet that the host drops.
const WATCH: Duration = Duration::from_secs(2);
/// An answer holds for this long.
const HOLDS: Duration = Duration::from_mins(1);
/// Fewer SYNs than this in a second open no question, and fewer during a watch answer none.
const ENOUGH: u64 = 3;

/// What is known of all listeners.
#[derive(Default)]
pub struct Undelivered {
    slots: HashMap<u32, Slot>,
    watch: Option<Watch>,
}

/// What is known of one.
#[derive(Default)]
struct Slot {
    /// SYNs that TCP did not look up, at the last reading, and those that repeat an earlier one.
    seen: (u64, u64),
    /// The same a second or more ago, and when.
    before: (u64, Duration),
    /// What becomes of them, and since when that is known.
    fate: Option<(Fate, Duration)>,
    filtered: u64,
    elsewhere: u64,
}

/// What becomes of most of them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// The kernel drops them, for these reasons, the most frequent first.
    Filtered(Vec<String>),
    /// It does not: they go on to another network namespace, or another host.
    Elsewhere,
    /// They repeat a SYN whose request waits for its answer.
    Repeated,
}

/// Ports that are being watched.
struct Watch {
    watching: Watching,
    begun: Duration,
    /// Their slots, and what was seen of each at the begin.
    slots: Vec<(u32, (u64, u64))>,
}

impl Undelivered {
    /// Takes in a reading of the listeners, and writes into them what is known.
    pub fn step(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        drops: &mut Drops,
        open: &mut [Open],
        at: Duration,
    ) -> Result<(), KernelError> {
        let mut wanted = Vec::new();
        for (slot, listener) in open.iter_mut().filter(|(slot, _)| *slot != 0) {
            if self.note(*slot, listener, at) && wanted.len() < AT_ONCE {
                wanted.push((*slot, at_port(listener)));
            }
        }
        if let Some(watch) = self.watch.take_if(|watch| at.saturating_sub(watch.begun) >= WATCH) {
            let counts = drops.read(maps, &watch.watching);
            drops.stop(maps, &watch.watching)?;
            if drops.why_unknown().is_none() {
                self.answer(&watch, &counts, open, at);
            }
        }
        if self.watch.is_none() && !wanted.is_empty() && drops.why_unknown().is_none() {
            let (slots, ports): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
            if let Some(watching) = drops.start(object, maps, &ports)? {
                let slots = slots.into_iter().map(|slot| (slot, self.slots[&slot].seen)).collect();
                self.watch = Some(Watch { watching, begun: at, slots });
            }
        }
        Ok(())
    }

    /// Takes in a listener, and writes into it what is known; whether a question is open.
    fn note(&mut self, slot: u32, listener: &mut Listener, at: Duration) -> bool {
        let repeated = listener.sample.repeated;
        let Some(delivery) = &mut listener.delivery else { return false };
        let kept = self.slots.entry(slot).or_insert_with(|| Slot {
            seen: (delivery.undelivered, repeated),
            before: (delivery.undelivered, at),
            ..Slot::default()
        });
        let new = delivery.undelivered.saturating_sub(kept.seen.0);
        kept.seen = (delivery.undelivered.max(kept.seen.0), repeated);
        match &kept.fate {
            Some((Fate::Filtered(reasons), _)) => {
                kept.filtered += new;
                listener.drop_reasons.clone_from(reasons);
            }
            Some((Fate::Elsewhere, _)) => kept.elsewhere += new,
            Some((Fate::Repeated, _)) | None => {}
        }
        // SYNs on their way are among them for a moment, and the count is not to go back.
        delivery.undelivered = kept.seen.0;
        delivery.filtered = kept.filtered.min(delivery.undelivered);
        let elsewhere = kept.elsewhere.min(delivery.undelivered - delivery.filtered);
        delivery.diverted += elsewhere;
        delivery.elsewhere = elsewhere;
        delivery.undelivered -= delivery.filtered + elsewhere;
        if at.saturating_sub(kept.before.1) < Duration::from_secs(1) {
            return false;
        }
        let many = kept.seen.0.saturating_sub(kept.before.0) >= ENOUGH;
        kept.before = (kept.seen.0, at);
        many && kept.fate.as_ref().is_none_or(|(_, since)| at.saturating_sub(*since) >= HOLDS)
    }

    /// Judges what was seen during a watch.
    fn answer(&mut self, watch: &Watch, counts: &[PortCounts], open: &[Open], at: Duration) {
        for ((slot, before), counts) in watch.slots.iter().zip(counts) {
            let Some(kept) = self.slots.get_mut(slot) else { continue };
            let Some((_, listener)) = open.iter().find(|(number, _)| number == slot) else { continue };
            let lost = kept.seen.0.saturating_sub(before.0);
            let repeated = kept.seen.1.saturating_sub(before.1);
            if lost >= ENOUGH {
                kept.fate = Some((fate(lost, repeated, dropped(listener, counts)), at));
            }
        }
    }

    /// A slot was freed.
    pub fn forget(&mut self, slot: u32) {
        self.slots.remove(&slot);
    }
}

/// Where a listener is to be watched.
fn at_port(listener: &Listener) -> Wanted {
    ((!listener.address.is_unspecified()).then_some(listener.address), listener.port)
}

/// SYNs to a listener that the kernel dropped, by reason, the most frequent first.
fn dropped(listener: &Listener, counts: &PortCounts) -> Vec<(String, u64)> {
    let [ipv4, ipv6] = &counts.families;
    let families = match (listener.address.is_ipv4(), listener.dual_stack) {
        (true, _) => vec![ipv4],
        (false, true) => vec![ipv4, ipv6],
        (false, false) => vec![ipv6],
    };
    let mut reasons = HashMap::new();
    for (reason, count) in families.into_iter().flat_map(|family| &family.syns) {
        *reasons.entry(reason.clone()).or_insert(0) += count;
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by(|(a, many), (b, more)| more.cmp(many).then(a.cmp(b)));
    reasons
}

/// What becomes of most of the SYNs that were lost to TCP.
fn fate(lost: u64, repeated: u64, dropped: Vec<(String, u64)>) -> Fate {
    let count: u64 = dropped.iter().map(|(_, count)| count).sum();
    if count.saturating_mul(2) >= lost {
        return Fate::Filtered(dropped.into_iter().map(|(reason, _)| reason).collect());
    }
    if repeated.saturating_mul(2) >= lost { Fate::Repeated } else { Fate::Elsewhere }
}

#[cfg(test)]
mod tests {
    use tracker_model::delivery::Delivery;

    use super::*;

    fn listener(undelivered: u64) -> Listener {
        let delivery = Some(Delivery { undelivered, ..Delivery::default() });
        Listener { delivery, ..Listener::new(1, [0; 4].into(), 80) }
    }

    fn counts(netfilter: u64) -> PortCounts {
        let mut counts = PortCounts::default();
        if netfilter > 0 {
            counts.families[0].syns.insert("NETFILTER_DROP".to_owned(), netfilter);
        }
        counts.families[1].syns.insert("IP_RPFILTER".to_owned(), 1_000);
        counts
    }

    #[test]
    fn most_of_what_is_lost_says_what_becomes_of_it() {
        let reasons =
            |counts: &[(&str, u64)]| counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let both = Fate::Filtered(vec!["NETFILTER_DROP".to_owned(), "TCP_CSUM".to_owned()]);
        assert_eq!(fate(100, 90, reasons(&[("NETFILTER_DROP", 40), ("TCP_CSUM", 10)])), both);
        assert_eq!(fate(100, 90, reasons(&[("NETFILTER_DROP", 10)])), Fate::Repeated);
        assert_eq!(fate(100, 10, reasons(&[])), Fate::Elsewhere);
        assert_eq!(dropped(&listener(0), &counts(7)), [("NETFILTER_DROP".to_owned(), 7)], "of its family alone");
    }

    #[test]
    fn what_comes_after_an_answer_is_counted_by_it() {
        let mut undelivered = Undelivered::default();
        let second = Duration::from_secs;
        assert!(!undelivered.note(1, &mut listener(1_000), second(0)));
        assert!(!undelivered.note(1, &mut listener(1_002), second(1)), "two are no question");
        assert!(undelivered.note(1, &mut listener(1_012), second(2)));
        undelivered.slots.get_mut(&1).unwrap().fate =
            Some((Fate::Filtered(vec!["NETFILTER_DROP".to_owned()]), second(4)));
        let mut seen = listener(1_112);
        assert!(!undelivered.note(1, &mut seen, second(5)), "it is answered");
        let delivery = seen.delivery.unwrap();
        assert_eq!((delivery.filtered, delivery.undelivered), (100, 1_012));
        assert_eq!(seen.drop_reasons, ["NETFILTER_DROP"]);
        undelivered.slots.get_mut(&1).unwrap().fate = Some((Fate::Elsewhere, second(6)));
        let mut seen = listener(1_212);
        assert!(undelivered.note(1, &mut seen, second(70)), "asked again after a while");
        let delivery = seen.delivery.unwrap();
        assert_eq!((delivery.filtered, delivery.diverted, delivery.undelivered), (100, 100, 1_012));
    }
}
