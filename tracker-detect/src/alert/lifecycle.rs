//! The alerts of one detector that fire, by what they are about.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use tracker_model::api::Evidence;

use super::{AlertStore, Report};

/// The moment of an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedAt {
    /// By the monotonic clock.
    pub at: Duration,
    /// The time of day, only shown.
    pub wall: Timestamp,
}

impl ObservedAt {
    /// An earlier time of day, by the monotonic clock.
    #[must_use]
    pub fn earlier(self, wall: Timestamp) -> Duration {
        let ago = Duration::try_from(self.wall.duration_since(wall)).unwrap_or_default();
        self.at.saturating_sub(ago)
    }
}

#[derive(Clone, Copy, Debug)]
struct ActiveAlert {
    id: u64,
    /// When its cause was last seen.
    last: ObservedAt,
}

/// The alerts that fire, one for each key, and their way into the store.
#[derive(Debug)]
pub struct ActiveAlerts<K> {
    store: AlertStore,
    active: BTreeMap<K, ActiveAlert>,
}

impl<K: Ord + Clone> ActiveAlerts<K> {
    /// No alert yet; those to come go into `store`.
    #[must_use]
    pub const fn new(store: AlertStore) -> Self {
        Self { store, active: BTreeMap::new() }
    }

    /// Whether an alert fires for `key`.
    pub fn fires(&self, key: &K) -> bool {
        self.active.contains_key(key)
    }

    /// Opens an alert for `key`, or updates the one that fires with `report`. `peak` keeps what only grows from the
    /// evidence before. The cause was last seen at `last`.
    pub fn report(
        &mut self,
        key: K,
        since: Timestamp,
        last: ObservedAt,
        report: Report,
        peak: impl FnOnce(&mut Report, &Evidence),
    ) {
        if let Some(alert) = self.active.get_mut(&key) {
            alert.last = last;
            self.store.update(alert.id, |before| {
                let evidence = std::mem::replace(before, report).evidence;
                peak(before, &evidence);
            });
        } else {
            let id = self.store.open(report, since);
            self.active.insert(key, ActiveAlert { id, last });
        }
    }

    /// Changes the text of the alert for `key`; its cause was not seen again.
    pub fn amend(&self, key: &K, change: impl FnOnce(&mut Report)) {
        if let Some(alert) = self.active.get(key) {
            self.store.update(alert.id, change);
        }
    }

    /// The causes of these alerts are still there.
    pub fn hold(&mut self, now: ObservedAt, is_there: impl Fn(&K) -> bool) {
        for (_, alert) in self.active.iter_mut().filter(|(key, _)| is_there(key)) {
            alert.last = now;
        }
    }

    /// Ends the alert for `key`, if there is one.
    pub fn resolve(&mut self, key: &K, until: Timestamp) {
        if let Some(alert) = self.active.remove(key) {
            self.store.resolve(alert.id, until);
        }
    }

    /// Ends the alerts for which `until` names an end.
    pub fn resolve_where(&mut self, until: impl Fn(&K, ObservedAt) -> Option<Timestamp>) {
        let over: Vec<_> = self
            .active
            .iter()
            .filter_map(|(key, alert)| until(key, alert.last).map(|until| (key.clone(), until)))
            .collect();
        for (key, until) in over {
            self.resolve(&key, until);
        }
    }
}
