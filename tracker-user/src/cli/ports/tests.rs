//! What is printed.

use tracker_fixtures as sample;
use tracker_model::api::PortUse;

use super::*;

fn shown(answer: &Ports, of: &Shown, wide: bool) -> String {
    let now = sample::under_shortage().taken_at;
    render(answer, of, View { wide, now, columns: None })
}

fn sample_ports() -> Ports {
    Ports::clone(&sample::under_shortage().ports)
}

fn only(destination: &str) -> Shown {
    let destination = Some(crate::cli::value::destination(destination).unwrap());
    Shown { filter: Filter { destination, process: None }, all: false }
}

#[test]
fn of_many_destinations_the_worst_twenty_are_shown_and_the_rest_is_bounded() {
    let mut answer = sample_ports();
    let (full, idle) = (answer.ports[0].clone(), answer.ports[4].clone());
    answer.ports = (1..=30).map(|port| PortUse { destination_port: port, ..full.clone() }).collect();
    answer.failures = vec![answer.failures[0].clone(); 12];
    let text = shown(&answer, &Shown::default(), false);
    assert!(text.contains("\n10 more, of which none has used up more than 100 %: --all shows them\n"), "{text}");
    assert!(text.contains("\n2 more, of 2,600 calls: --all shows them\n"), "{text}");
    assert_eq!(text.matches(" -> ").count() + text.matches("app(4711) +1").count(), 20, "{text}");
    let all = Shown { all: true, ..Shown::default() };
    assert!(!shown(&answer, &all, false).contains("--all"));
    // One that hardly uses any matters when calls failed or it fills.
    answer.ports = (1..=30).map(|port| PortUse { destination_port: port, ..idle.clone() }).collect();
    answer.ports[10].failures = 1;
    let text = shown(&answer, &Shown::default(), false);
    assert!(
        text.contains("127.0.0.1:5 ") && text.contains("127.0.0.1:11 ") && !text.contains("127.0.0.1:6 "),
        "{text}"
    );
    assert!(text.contains("\n24 more, of which none has used up more than 0.3 %: --all shows them\n"), "{text}");
}

#[test]
fn what_was_asked_for_and_is_not_there_is_named() {
    let of = only("192.0.2.99:1");
    let text = shown(&of.filter.apply(sample_ports()), &of, false);
    let expected =
        "No local port is in use for a connection to 192.0.2.99:1.\n\nNetwork namespace 4026531840, 1s ago: ";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn where_nothing_is_in_use_it_is_one_line() {
    let mut answer = sample_ports();
    (answer.ports, answer.failures, answer.bind_pools) = Default::default();
    answer.conflicts.clear();
    answer.namespaces[0].rest = tracker_model::api::PortRest::default();
    assert_eq!(shown(&answer, &Shown::default(), false), "No local port is in use for a connection.\n");
    let before = Ports::default();
    assert_eq!(
        shown(&before, &Shown::default(), false),
        "The sockets were not counted yet: ask again in a few seconds.\n"
    );
}
