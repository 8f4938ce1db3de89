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
fn the_worst_comes_first_and_what_it_rests_on_below() {
    let expected = "\
SOURCE        DESTINATION         IN-USE TIME-WAIT REUSABLE CAPACITY USED% GROWTH/S FULL-IN FAILED  PROCESS
192.0.2.10    198.51.100.7:443       978       400        0      978   100       ~0       -  1,312  app(4711) +1
192.0.2.10    203.0.113.20:5432      761         0        0      978    78    ~+3.5  ~1m 2s      0  pgbench(77)
2001:db8::10  [2001:db8::53]:853     120       120       60      978   6.1    ~-1.2       -      0  made by unbound(53)
127.0.0.1     127.0.0.1:8080           3         1        0      978   0.3        -       -      0  -

BIND POOL   IN-USE BOUND CAPACITY USED%
192.0.2.10     990   300      990   100
These are for bind() with port 0 before connect(): one connection a port, whatever its destination.
IN-USE and BOUND are lower bounds: 3 sockets are of addresses beyond those counted.

FAILED CONNECT FROM  TO                CALLS  FIRST   LAST     PROCESS
192.0.2.10           198.51.100.7:443  1,300  1m ago  1s ago   app(4711)
-                    198.51.100.7:443     12  1m ago  40s ago  cron-job(99)

REFUSED BIND TO  PROTOCOL  CALLS  FIRST    LAST     PROCESS        HELD BY
0.0.0.0:8080     tcp           3  30s ago  10s ago  new-app(5000)  nginx(815) 1

Network namespace 4026531840, 1s ago: range 40000-40999 (1,000 ports), 10 reserved, 12 bound by bind(), tcp_tw_reuse 2
  UDP, apart from TCP: 60 sockets, 42 of them on 40 of 990 ports of the range (4.0 %), most by resolver(53) 40
  not listed: 5,000 connections, of >=1,900 sources and destinations; no other destination holds more than 2

What holds the ports, and what to do: tracker explain connect 198.51.100.7:443 --source 192.0.2.10
";
    assert_eq!(shown(&sample_ports(), &Shown::default(), false), expected);
}

#[test]
fn wide_adds_the_namespace_what_could_be_reused_and_all_processes() {
    let expected = "\
SOURCE        DESTINATION         IN-USE TIME-WAIT REUSABLE CAPACITY USED% GROWTH/S FULL-IN FAILED BOUND RECYCLABLE NEXT-FREE      NETNS  PROCESS                         MADE-BY                             STATES
192.0.2.10    198.51.100.7:443       978       400        0      978   100       ~0       -  1,312     0        350      0.4s 4026531840  app(4711) 500, cron-job(99) 78  app(4711) >=880, cron-job(99) >=90  established 570, time_wait 400, close_wait 8
192.0.2.10    203.0.113.20:5432      761         0        0      978    78    ~+3.5  ~1m 2s      0     2          0         - 4026531840  pgbench(77) 761                 -                                   established 761
2001:db8::10  [2001:db8::53]:853     120       120       60      978   6.1    ~-1.2       -      0     0         60       12s 4026531840  -                               unbound(53) >=101                   time_wait 120
127.0.0.1     127.0.0.1:8080           3         1        0      978   0.3        -       -      0     0          0         - 4026531840  -                               -                                   established 2, time_wait 1

";
    let text = shown(&sample_ports(), &Shown::default(), true);
    assert!(text.starts_with(expected), "{text}");
    for head in ["USED%      NETNS\n", "PROCESS       UID CGROUP      NETNS\n", "HELD BY       UID CGROUP      NETNS\n"]
    {
        assert!(text.contains(head), "{head}: {text}");
    }
}

#[test]
fn of_many_destinations_the_worst_twenty_are_shown_and_the_rest_is_bounded() {
    let mut answer = sample_ports();
    let (full, idle) = (answer.ports[0].clone(), answer.ports[3].clone());
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

#[test]
fn a_process_name_cannot_steer_the_terminal() {
    let mut answer = sample_ports();
    answer.ports[0].processes[0].comm = "a\u{1b}b\n".to_owned();
    answer.failures[0].process.comm = "c\u{1b}d\n".to_owned();
    for wide in [false, true] {
        let text = shown(&answer, &Shown::default(), wide);
        assert!(
            text.contains("a\\u{1b}b\\n(4711)") && text.contains("c\\u{1b}d\\n") && !text.contains('\u{1b}'),
            "{text}"
        );
    }
}
