//! The figures that an alert rests on.

use std::time::Duration;

use super::{
    history::rate,
    settings::WINDOW,
    subject::{Before, SubjectView},
};
use crate::estimators::hll;
use crate::estimators::rate::float;
use tracker_model::api::FloodEvidence;

/// Rates over less than this, seconds, are no peak: they may be those of a burst.
const PEAK: f64 = 0.9;

/// Brings the figures up to date with `syns` more, and with rates from `from` at the earliest to `to`, the end of a
/// known interval.
pub fn update(
    evidence: &mut FloodEvidence,
    syns: u64,
    before: &Before,
    from: Duration,
    to: Duration,
    view: &SubjectView,
) {
    evidence.syns = evidence.syns.saturating_add(syns);
    rates(evidence, from, to, view);
    distinct_sources(evidence, view);
    repeated(evidence, before, view);
    queues(evidence, before, view);
    evidence.undelivered = view.cusum.history.last().undelivered.saturating_sub(before.point.undelivered);
    evidence.drop_reasons = view.drop_reasons.to_vec();
}

/// Brings the shares of the sources up to date.
pub fn sources(evidence: &mut FloodEvidence, view: &SubjectView) {
    if view.state.sample.len() > 0 {
        (evidence.top_sources, evidence.top_prefixes) = view.state.sample.top(&view.state.completed);
    }
}

fn rates(evidence: &mut FloodEvidence, from: Duration, to: Duration, view: &SubjectView) {
    let from = from.max(to.saturating_sub(WINDOW));
    let Some(span) = view.cusum.history.span(from, to) else { return };
    evidence.syn_rate = rate(&span, |point| point.syns);
    evidence.completed_rate = rate(&span, |point| point.completed);
    // What comes to light late may be more than went unanswered in this time: no more than was not answered.
    let most = (evidence.syn_rate - rate(&span, |point| point.answered)).max(0.0);
    evidence.unanswered_rate = rate(&span, |point| point.unanswered).min(most);
    let repeated = rate(&span, |point| point.repeated);
    evidence.new_connection_rate = view.flow.map(|_| (evidence.syn_rate - repeated).max(0.0));
    let seconds = span.1.at.saturating_sub(span.0.at).as_secs_f64();
    (evidence.rates_until, evidence.rates_seconds) = (Some(view.context.wall_of(span.1.at)), seconds);
    if seconds >= PEAK || evidence.peak_syn_rate <= 0.0 {
        evidence.peak_syn_rate = evidence.peak_syn_rate.max(evidence.syn_rate);
    }
}

/// Distinct sources are summed up only since the subject is watched, a step or two after the onset. What came before is
/// put at the share of new sources among the SYNs after: of SYNs from a pool of equally likely sources, exp(-l) are new
/// when the distinct ones are (1 - exp(-l)) / l of them, which is about the square of that.
fn distinct_sources(evidence: &mut FloodEvidence, view: &SubjectView) {
    let (distinct, covered) = view.state.distinct;
    if covered == 0 || distinct <= 0.0 {
        return;
    }
    let share = (distinct / float(covered)).min(1.0);
    let missed = float(evidence.syns.saturating_sub(covered)) * share * share;
    evidence.distinct_sources = (distinct + missed).round();
    evidence.distinct_sources_error = hll::ERROR.hypot(0.25 * missed / (distinct + missed));
}

fn repeated(evidence: &mut FloodEvidence, before: &Before, view: &SubjectView) {
    if let (Some(now), Some(before)) = (view.flow, before.flow) {
        let repeated = now.repeated.saturating_sub(before.repeated);
        let first = now.first.saturating_sub(before.first);
        let all = first.saturating_add(repeated);
        evidence.repeated_share = if all > 0 { Some(float(repeated) / float(all)) } else { evidence.repeated_share };
        if first > 0 {
            // Those that began just before the onset may be completed after it.
            let completed = now.completed.saturating_sub(before.completed).min(first);
            evidence.completed_share = Some(float(completed) / float(first));
        }
    }
}

fn queues(evidence: &mut FloodEvidence, before: &Before, view: &SubjectView) {
    let Some(seen) = view.queues else { return };
    evidence.waiting_clients = view.waiting.or(evidence.waiting_clients);
    // Of one that drains, how it was when it was full.
    if let Some(worst) = view.worst_socket.filter(|worst| worst.full > 0 || evidence.worst_socket.is_none()) {
        evidence.worst_socket = Some(worst.clone());
    }
    let queues = seen.queues;
    if evidence.accept_queue >= Some(queues.accept_queue_max) && queues.accept_queue < queues.accept_queue_max {
        // It drains: what is shown is how it was while connections were turned away.
        return;
    }
    evidence.half_open = Some(queues.half_open);
    evidence.syn_queue = Some(queues.syn_queue);
    evidence.syn_queue_young = Some(queues.syn_queue_young);
    evidence.accept_queue = Some(queues.accept_queue);
    evidence.syn_queue_max = Some(queues.syn_queue_max);
    evidence.accept_queue_max = Some(queues.accept_queue_max);
    // The count is that of the sockets: one that was opened since, or again, began at zero.
    let since = before.point.drops.and_then(|before| queues.drops.checked_sub(before));
    evidence.dropped = Some(since.unwrap_or(queues.drops));
    evidence.dropped_since = since.map(|_| view.context.wall_of(before.point.drops_at));
}
