//! The store of all alerts, from the first moment of each to the last.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tracker_model::{
    api::{Alert, AlertKind, AlertState, AlertSubject, Class, Evidence, Fact, FactValue, Severity},
    text::period,
};

/// Alerts of one kind that are remembered. Each kind has places of its own: refused `bind()` calls, of which any
/// process can cause as many as it likes, push out no alert of another kind.
pub const MAX_OF_KIND: usize = 256;

/// What a detector says of an alert at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it is about.
    pub kind: AlertKind,
    /// How bad it is. While an alert fires, the store keeps the worst that was reported.
    pub severity: Severity,
    /// Which listener, destination, process or other object.
    pub subject: AlertSubject,
    /// Class of a flood.
    pub class: Option<Class>,
    /// One line, without the time; the store adds it.
    pub headline: String,
    /// The figures, by name.
    pub evidence: Evidence,
    /// The figures with all that is needed to print them.
    pub facts: Vec<Fact>,
    /// What to do.
    pub advice: String,
    /// What is not known, and why.
    pub unknown: Vec<String>,
    /// Whether it was so already when the daemon looked first. It counts when the alert is opened.
    pub since_before: bool,
}

impl Report {
    /// A report of `kind`, with nothing else in it.
    #[must_use]
    pub fn new(kind: AlertKind, severity: Severity, subject: AlertSubject, evidence: Evidence) -> Self {
        let (headline, advice, unknown) = (String::new(), String::new(), Vec::new());
        let (class, facts, since_before) = (None, Vec::new(), false);
        Self { kind, severity, subject, class, headline, evidence, facts, advice, unknown, since_before }
    }

    /// A report whose evidence is `facts`.
    #[must_use]
    pub fn of_facts(kind: AlertKind, severity: Severity, subject: AlertSubject, facts: Vec<Fact>) -> Self {
        let evidence = Evidence::Facts(facts.iter().map(|fact| (fact.name.clone(), fact.value.clone())).collect());
        Self { facts, ..Self::new(kind, severity, subject, evidence) }
    }

    /// Keeps the count `name` of the report before, if it was higher: a peak.
    pub fn keep_peak(&mut self, name: &str, before: &Evidence) {
        let (Evidence::Facts(now), Evidence::Facts(before)) = (&mut self.evidence, before) else { return };
        let (Some(FactValue::Count(now)), Some(FactValue::Count(before))) = (now.get_mut(name), before.get(name))
        else {
            return;
        };
        *now = (*now).max(*before);
        for fact in self.facts.iter_mut().filter(|fact| fact.name == name) {
            fact.value = FactValue::Count(*now);
        }
    }
}

/// An alert as the store keeps it.
#[derive(Debug)]
struct StoredAlert {
    report: Report,
    since: Timestamp,
    since_before: bool,
    until: Option<Timestamp>,
    /// Times that it was reopened.
    pauses: u32,
}

#[derive(Debug, Default)]
struct Alerts {
    last_id: u64,
    /// By id, and so by age.
    stored: BTreeMap<u64, StoredAlert>,
    opened: BTreeMap<AlertKind, u64>,
}

/// All alerts of the daemon. A clone is the same store, so that each detector can hold one; no two alerts have the same
/// id.
#[derive(Clone, Debug, Default)]
pub struct AlertStore(Arc<Mutex<Alerts>>);

impl AlertStore {
    fn lock(&self) -> MutexGuard<'_, Alerts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an alert and returns its id; the first is 1. When the kind has no place left, its oldest alert that is
    /// over is forgotten; when none is over, the new one is only counted: those before it are no less urgent.
    #[must_use]
    pub fn open(&self, report: Report, since: Timestamp) -> u64 {
        let mut alerts = self.lock();
        alerts.last_id += 1;
        let (id, kind) = (alerts.last_id, report.kind);
        *alerts.opened.entry(kind).or_default() += 1;
        let of_kind = || alerts.stored.iter().filter(|(_, alert)| alert.report.kind == kind);
        if of_kind().count() == MAX_OF_KIND {
            let Some(oldest) = of_kind().find(|(_, alert)| alert.until.is_some()).map(|(id, _)| *id) else { return id };
            alerts.stored.remove(&oldest);
        }
        let since_before = report.since_before;
        alerts.stored.insert(id, StoredAlert { report, since, since_before, until: None, pauses: 0 });
        id
    }

    /// Changes what is said of an alert while it fires. Its severity does not fall.
    pub fn update(&self, id: u64, change: impl FnOnce(&mut Report)) {
        if let Some(alert) = self.lock().stored.get_mut(&id).filter(|alert| alert.until.is_none()) {
            let worst = alert.report.severity;
            change(&mut alert.report);
            alert.report.severity = alert.report.severity.max(worst);
        }
    }

    /// The alert is over. It never ends before it began.
    pub fn resolve(&self, id: u64, until: Timestamp) {
        if let Some(alert) = self.lock().stored.get_mut(&id) {
            alert.until = Some(until.max(alert.since));
        }
    }

    /// The alert fires again after a pause, under the same id.
    pub fn reopen(&self, id: u64) {
        if let Some(alert) = self.lock().stored.get_mut(&id) {
            alert.until = None;
            alert.pauses += 1;
        }
    }

    /// All alerts: firing ones first, then resolved ones, each newest first.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        let alerts = self.lock();
        let all = || alerts.stored.iter().rev();
        let firing = all().filter(|(_, alert)| alert.until.is_none());
        firing.chain(all().filter(|(_, alert)| alert.until.is_some())).map(|(id, alert)| alert.render(*id)).collect()
    }

    /// How many alerts of each kind were opened; kinds without one are left out.
    #[must_use]
    pub fn opened(&self) -> BTreeMap<AlertKind, u64> {
        self.lock().opened.clone()
    }
}

impl StoredAlert {
    fn render(&self, id: u64) -> Alert {
        let Report { kind, severity, subject, class, headline, evidence, facts, advice, unknown, since_before: _ } =
            self.report.clone();
        let mut summary = format!("{headline}; {}", period(self.since, self.since_before, self.until));
        if self.pauses > 0 {
            let _ = write!(summary, ", with {} pause{}", self.pauses, if self.pauses == 1 { "" } else { "s" });
        }
        Alert {
            id,
            kind,
            severity,
            state: if self.until.is_some() { AlertState::Resolved } else { AlertState::Firing },
            since: self.since,
            since_before: self.since_before,
            until: self.until,
            subject,
            class,
            summary,
            evidence,
            facts,
            advice,
            unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kind: AlertKind, severity: Severity) -> Report {
        let report = Report::of_facts(kind, severity, AlertSubject::default(), Vec::new());
        Report { headline: "h".to_owned(), ..report }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn ids(store: &AlertStore, kind: AlertKind) -> Vec<u64> {
        store.alerts().iter().filter(|alert| alert.kind == kind).map(|alert| alert.id).collect()
    }

    #[test]
    fn the_oldest_of_the_kind_that_is_over_makes_room() {
        let store = AlertStore::default();
        let open = |kind| store.open(report(kind, Severity::Warning), at(0));
        let other = open(AlertKind::PortScan);
        store.resolve(other, at(1));
        let first = open(AlertKind::SynFlood);
        for _ in 0..300 {
            store.resolve(open(AlertKind::SynFlood), at(1));
        }
        let kept = ids(&store, AlertKind::SynFlood);
        assert_eq!((kept.len(), kept[0], kept[1]), (MAX_OF_KIND, first, 302), "firing ones first, then the newest");
        for _ in 0..300 {
            open(AlertKind::SynFlood);
        }
        assert_eq!(ids(&store, AlertKind::SynFlood).len(), MAX_OF_KIND);
        assert!(store.alerts().iter().all(|alert| (alert.state == AlertState::Resolved) == (alert.id == other)));
        assert_eq!(store.opened(), [(AlertKind::SynFlood, 601), (AlertKind::PortScan, 1)].into());
    }

    #[test]
    fn an_alert_gets_worse_ends_and_begins_again_under_one_id() {
        let store = AlertStore::default();
        let id = store.clone().open(report(AlertKind::SynFlood, Severity::Info), at(10));
        for severity in [Severity::Critical, Severity::Warning] {
            store.update(id, |report| report.severity = severity);
        }
        store.resolve(id, at(5));
        store.update(id, |report| report.headline.push('!'));
        let alert = store.alerts().remove(0);
        assert_eq!((alert.severity, alert.until), (Severity::Critical, Some(at(10))), "never before it began");
        assert_eq!(alert.summary, "h; from 2027-01-15 08:00:10 to 08:00:10 UTC", "what is over stays as it was");
        store.reopen(id);
        let alert = store.alerts().remove(0);
        assert_eq!((alert.id, alert.state), (id, AlertState::Firing));
        assert_eq!(alert.summary, "h; since 2027-01-15 08:00:10 UTC, with 1 pause");
        assert_eq!(store.opened(), [(AlertKind::SynFlood, 1)].into());
    }
}
