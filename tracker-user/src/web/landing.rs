//! The page at `/`: where everything is, and a few numbers of this moment. It needs no JavaScript.

use maud::{DOCTYPE, Markup, html};
use tracker_common::{counters::SynTarget, state};
use tracker_model::{
    Snapshot,
    api::{Alert, AlertState},
};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:50em;margin:2em auto;padding:0 1em;\
    color-scheme:light dark}table{border-collapse:collapse}td,th{text-align:left;padding:.2em 1.5em .2em 0}\
    td.n{text-align:right;font-variant-numeric:tabular-nums}";

/// The page as HTML.
pub(super) fn page(snapshot: Option<&Snapshot>, telemetry_path: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "tracker " (version) }
                style { (STYLE) }
            }
            body {
                h1 { "tracker " (version) }
                p { "What this host's TCP does: SYNs, handshakes, listeners, floods, socket states." }
                ul {
                    li { a href=(telemetry_path) { "Metrics" } " for Prometheus" }
                    li { a href="/healthz" { "Health" } ": the process runs" }
                    li { a href="/readyz" { "Readiness" } ": the figures are fresh" }
                }
                @match snapshot {
                    Some(snapshot) => (figures(snapshot)),
                    None => p { "The daemon starts or stops; there are no figures." },
                }
            }
        }
    }
    .into_string()
}

fn figures(snapshot: &Snapshot) -> Markup {
    let firing: Vec<&Alert> = snapshot.alerts.iter().filter(|alert| alert.state == AlertState::Firing).collect();
    html! {
        @if !firing.is_empty() {
            h2 { "Alerts" }
            ul {
                @for alert in firing {
                    li { b { (alert.severity.name()) } " since " (format!("{:.0}", alert.since)) ": " (alert.summary) }
                }
            }
        }
        h2 { "Now" }
        table {
            @for (name, number) in numbers(snapshot) {
                tr { td { (name) } td.n { (number) } }
            }
        }
        h2 { "Interfaces" }
        table {
            tr { th { "Name" } th { "Hook" } th { "Packets" } th { "Why this hook" } }
            @for interface in &snapshot.interfaces {
                tr {
                    td { (interface.name) }
                    td { (interface.hook) }
                    td.n { (interface.counters.packets.as_flattened().iter().sum::<u64>()) }
                    td { (interface.reason) }
                }
            }
        }
        p {
            "Read at " (format!("{:.0}", snapshot.taken_at))
            ", counted since " (format!("{:.0}", snapshot.started_at)) ". More: "
            code { "tracker status" } ", " code { "tracker alerts" } ", "
            code { "tracker listeners" } ", " code { "tracker states" } "."
        }
    }
}

fn numbers(snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    let sockets = |number: u8| {
        let known = |counts: tracker_common::counters::Census| {
            counts.states.iter().map(|family| family[usize::from(number)]).sum::<u64>().to_string()
        };
        snapshot.census.map_or_else(|| "-".to_owned(), |census| known(census.counts))
    };
    vec![
        ("Listeners", snapshot.listeners.len().to_string()),
        ("Established sockets", sockets(state::ESTABLISHED)),
        ("Half-open sockets", sockets(state::NEW_SYN_RECV)),
        ("Sockets in TIME_WAIT", sockets(state::TIME_WAIT)),
        ("SYNs to listeners", snapshot.syns(SynTarget::Listener).total().to_string()),
        ("SYNs to no listener", snapshot.syns(SynTarget::NoListener).total().to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_the_interfaces_and_numbers() {
        let html = page(Some(&tracker_fixtures::snapshot()), "/metrics");
        assert!(html.contains("<td>eth0</td><td>xdp</td><td class=\"n\">212</td>"), "{html}");
        assert!(html.contains("<td>Established sockets</td><td class=\"n\">40</td>"));
        assert!(html.contains("<td>SYNs to no listener</td><td class=\"n\">40</td>"));
        assert!(!html.contains("<script"));
    }

    #[test]
    fn alerts_that_fire_come_first() {
        let html = page(Some(&tracker_fixtures::under_flood()), "/metrics");
        let line = "<li><b>critical</b> since 2027-01-15T07:59:48Z: SYN flood of [::]:443: ";
        assert!(html.contains(line) && html.find(line) < html.find("<h2>Now</h2>"), "{html}");
        assert!(!html.contains("accepts too slowly"), "it is over");
        assert!(!page(Some(&tracker_fixtures::snapshot()), "/metrics").contains("<h2>Alerts</h2>"));
    }

    #[test]
    fn names_cannot_smuggle_html() {
        let mut snapshot = tracker_fixtures::snapshot();
        snapshot.interfaces[0].name = "<b>x".to_owned();
        let html = page(Some(&snapshot), "/metrics");
        assert!(html.contains("&lt;b&gt;x") && !html.contains("<b>"));
    }
}
