//! `tracker alerts` as a table: a line for each, its summary below it, and, wide, what it rests on.

use std::fmt::Write as _;

use tracker_model::api::{Alert, AlertState, Alerts, Class};

use super::{
    evidence,
    format::{UNKNOWN, ago, printable},
    output::View,
    table::{self, Column},
};

const COLUMNS: [Column; 8] = [
    Column::Number("ID"),
    Column::Text(" SEVERITY"),
    Column::Text("STATE"),
    Column::Text("SINCE"),
    Column::Text("ENDED"),
    Column::Text("KIND"),
    Column::Text("CLASS"),
    Column::Text("SUBJECT"),
];

/// All of them, or those that fire.
pub(super) fn selected(mut answer: Alerts, firing: bool) -> Alerts {
    if firing {
        answer.alerts.retain(|alert| alert.state == AlertState::Firing);
    }
    answer
}

/// The answer as a table.
pub(super) fn render(answer: &Alerts, view: View) -> String {
    if answer.alerts.is_empty() {
        return "no alerts\n".to_owned();
    }
    let rows = answer.alerts.iter().map(|alert| row(alert, view)).collect();
    let table = table::render(&COLUMNS, rows, None);
    let mut lines = table.lines();
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (alert, line) in answer.alerts.iter().zip(lines) {
        let _ = writeln!(text, "{line}\n    {}", printable(&alert.summary));
        if view.wide {
            let _ = writeln!(text, "{}", evidence::render(alert));
        }
    }
    text.truncate(text.trim_end().len());
    text += if view.wide { "\n" } else { "\n\nEvidence, and what to do: tracker alerts -o wide\n" };
    text
}

fn row(alert: &Alert, view: View) -> Vec<String> {
    vec![
        alert.id.to_string(),
        format!(" {}", alert.severity.name()),
        alert.state.name().to_owned(),
        ago(alert.since, view.now),
        alert.until.map_or_else(|| UNKNOWN.to_owned(), |until| ago(until, view.now)),
        alert.kind.name().to_owned(),
        alert.class.map_or(UNKNOWN, Class::name).to_owned(),
        printable(&alert.about()),
    ]
}

#[cfg(test)]
mod tests {
    use crate::view as views;
    use tracker_fixtures as sample;
    use tracker_model::Snapshot;

    use super::*;

    fn shown(snapshot: &Snapshot, wide: bool) -> String {
        render(&views::alerts(snapshot), View { wide, now: snapshot.taken_at, columns: None })
    }

    #[test]
    fn wide_shows_what_an_alert_rests_on_and_whose_figures_these_are() {
        let expected = "\
ID  SEVERITY  STATE     SINCE      ENDED   KIND             CLASS        SUBJECT
 3  critical  firing    12s ago    -       syn_flood        spoofed      [::]:443 nginx(815)
    SYN flood of [::]:443: 5,012 SYN/s from about 59,310 sources all over (spoofed), 100 % unanswered; since 2027-01-15 07:59:48 UTC
    rates        5,012 SYN/s now, 5,405 at most; 5,000/s unanswered; 11.5/s completed, usually 12.5/s
    since onset  60,000 SYNs, about 0.1 % of them repeats, about 0.2 % of the connections completed
    sources      ~59,310 distinct (standard error 1.2 %); 192.0.2.77 0.8±1.1 %, 198.51.100.4 0.4±0.8 %
    prefixes     192.0.2.0/24 1.2±1.3 %
    listener     half-open 511, SYN queue 511/511 (240 young), accept queue 0/511, 56,998 turned away since onset
    namespace    SyncookiesSent +2,600, TCPReqQFullDrop +57,000 since onset, all its listeners together
    advice       Turn SYN cookies on (net.ipv4.tcp_syncookies=1).

 4  info      firing    40s ago    -       port_scan        scan         no listener
    Port scan: up to 1,210 ports without a listener tried, mostly from 203.0.113.9, 31 SYN/s; since 2027-01-15 07:59:20 UTC
    rates        31.0 SYN/s now, 40.0 at most; 31.0/s unanswered
    since onset  1,300 SYNs, to at most 1,210 ports
    sources      ~2 distinct (standard error 1.2 %); 203.0.113.9 98.0±2.0 %
    prefixes     203.0.113.0/24 98.0±2.0 %
    advice       Nothing, if the firewall is meant to let this through.

 1  warning   resolved  1h 1m ago  1h ago  accept_overflow  slow_accept  [::]:443 nginx(815)
    [::]:443 accepts too slowly: accept queue 512 of 511, 4 connections/s turned away; from 2027-01-15 06:58:20 to 07:00:00 UTC
    rates        20.0 SYN/s at the end, 30.0 at most; 4.0/s unanswered; 16.0/s completed, usually 15.0/s
    since onset  2,000 SYNs, about 20 % of them repeats, began again after 1 pause
    sources      ~40 distinct (standard error 1.2 %)
    listener     half-open 12, SYN queue 12/511 (2 young), accept queue 512/511, 2 turned away since onset
    advice       See why nginx does not call accept().
    not known    the census failed for 10 s: queues are those before it
";
        assert_eq!(shown(&sample::under_flood(), true), expected);
    }

    #[test]
    fn ports_and_leaks_name_their_destination_or_process() {
        let expected = "\
ID  SEVERITY  STATE     SINCE    ENDED    KIND                    CLASS  SUBJECT
14  critical  firing    30s ago  -        port_exhaustion         -      bind() on 192.0.2.10
    Local ports that bind() can choose on 192.0.2.10 are gone: 990 of 990 used (100 %); since 2027-01-15 07:59:30 UTC
12  critical  firing    1m ago   -        port_allocation_failed  -      192.0.2.10 -> 198.51.100.7:443 app(4711)
    connect() to 198.51.100.7:443 from 192.0.2.10 found no free local port: 1,300 calls failed, all of app (pid 4711); 978 of 978 used (100 %), 400 of them in TIME_WAIT; since 2027-01-15 07:58:25 UTC
11  critical  firing    3m ago   -        port_exhaustion         -      192.0.2.10 -> 198.51.100.7:443 app(4711)
    Local ports from 192.0.2.10 to 198.51.100.7:443 are gone: 978 of 978 used (100 %), 400 of them in TIME_WAIT; since 2027-01-15 07:56:40 UTC
15  warning   firing    10s ago  -        fin_wait_leak           -      app(4711)
    app (pid 4711) leaks connections: 60 sockets in FIN_WAIT2, the oldest for at least 75 s; since 2027-01-15 07:59:50 UTC
13  warning   firing    20s ago  -        port_exhaustion         -      192.0.2.10 -> 203.0.113.20:5432 pgbench(77)
    Local ports from 192.0.2.10 to 203.0.113.20:5432 run out: 761 of 978 used (78 %), full in 62 s; since 2027-01-15 07:59:40 UTC
 9  warning   firing    40m ago  -        close_wait_leak         -      cron-job(99)
    cron-job (pid 99) leaks connections: 212 sockets in CLOSE_WAIT, the oldest for at least 44 min; since 2027-01-15 07:20:00 UTC
10  warning   resolved  1h ago   59m ago  bind_conflict           -      bind() to 0.0.0.0:80 httpd(600)
    bind() to 0.0.0.0:80 failed, the address is in use: 2 calls failed, all of httpd (pid 600); held by nginx (pid 815); from 2027-01-15 07:00:00 to 07:00:10 UTC

Evidence, and what to do: tracker alerts -o wide
";
        assert_eq!(shown(&sample::under_shortage(), false), expected);
    }

    #[test]
    fn those_that_fire_can_be_asked_for_alone() {
        let selected = |firing| selected(views::alerts(&sample::under_flood()), firing).alerts.len();
        assert_eq!((selected(true), selected(false)), (2, 3));
    }

    #[test]
    fn without_alerts_it_says_so() {
        assert_eq!(shown(&sample::snapshot(), false), "no alerts\n");
        assert_eq!(shown(&sample::snapshot(), true), "no alerts\n");
    }

    #[test]
    fn a_process_name_cannot_steer_the_terminal() {
        let mut snapshot = sample::under_flood();
        let alert = &mut snapshot.alerts[0];
        alert.subject.process.as_mut().unwrap().comm = "a\u{1b}b\n".to_owned();
        alert.summary = "x\u{1b}\ny".to_owned();
        let text = shown(&snapshot, true);
        assert!(text.contains("a\\u{1b}b\\n(815)") && text.contains("x\\u{1b}\\ny") && !text.contains('\u{1b}'));
    }
}
