//! Advice on local ports: what would help, and nothing else.

use tracker_common::state;
use tracker_detect::ports::{PortSettings, PortsObservation, TwReuse};
use tracker_model::api::PortHolder;

use crate::support::{Watch, conflict, failure, seen, tuple};

/// The advice for a tuple that is nearly full.
fn advice(change: impl FnOnce(&mut PortsObservation)) -> String {
    let mut watch = Watch::default();
    let mut seen = seen(10.0, vec![tuple(50, 900)]);
    seen.settings.tw_reuse = TwReuse::Loopback;
    seen.tuples[0].recyclable = 850;
    change(&mut seen);
    watch.step(&seen).remove(0).advice
}

#[test]
fn advice_is_only_what_would_help() {
    let keep = "Keep connections and use them again (HTTP keep-alive, a connection pool), or let the peer close first: \
                each of the 900 ports in TIME_WAIT is taken for 60 s, because this side closed first.";
    let reuse = "sysctl net.ipv4.tcp_tw_reuse=1 lets connect() take 850 of the ports in TIME_WAIT now.";
    let widen = "Widen the range: sysctl net.ipv4.ip_local_port_range=\"1024 65535\" has 64,512 ports instead of 1,000 \
                 (40000 to 40999); first reserve the ports of your own services (net.ipv4.ip_local_reserved_ports).";
    let more = "Each further source address, destination address or destination port has as many ports again: add a \
                source address, or spread over more destinations.";
    assert_eq!(advice(|_| {}), [keep, reuse, widen, more].join(" "));
    let no_timestamps = |seen: &mut PortsObservation| seen.tuples[0].recyclable = 0;
    assert_eq!(advice(no_timestamps), [keep, widen, more].join(" "));
    let open = |seen: &mut PortsObservation, close_wait| {
        seen.tuples[0] = tuple(900, 50);
        seen.tuples[0].states[usize::from(state::CLOSE_WAIT)] = close_wait;
        seen.tuples[0].processes = vec![PortHolder { pid: 815, comm: "nginx".to_owned(), ports: 930 }];
    };
    let close = "Close connections that are idle or leaked: nginx (pid 815) holds 930.";
    assert_eq!(advice(|seen| open(seen, 40)), [close, widen, more].join(" "));
    let leak = "200 connections are in CLOSE_WAIT: the peer has closed, and the process has not. It must call close().";
    assert_eq!(advice(|seen| open(seen, 200)), [close, leak, widen, more].join(" "));
    let taken = advice(|seen| {
        let reserved = "1024-20000".parse().unwrap();
        seen.settings = PortSettings { reserved, low: 1_024, high: 65_535, ..PortSettings::default() };
        seen.bound = (20_001..65_000).collect();
    });
    let reserved = "Free reserved ports: net.ipv4.ip_local_reserved_ports takes 18,977 out of the range.";
    let bound = "44,999 ports of the range are taken by bind(), for all destinations at once";
    assert!(taken.contains(reserved) && taken.contains(bound) && !taken.contains("Widen"), "{taken}");
}

#[test]
fn what_is_not_the_cause_is_not_advised() {
    let failed = |open| {
        move |seen: &mut PortsObservation| {
            (seen.failures, seen.tuples) = (vec![failure(2, 9.0, 9.5)], vec![tuple(open, 0)]);
        }
    };
    let free = advice(failed(40));
    assert!(free.contains("more at once than a census can follow") && !free.contains("sysctl"), "{free}");
    assert!(advice(failed(1_000)).contains("Widen the range: sysctl"));
    let local = |tw_reuse| {
        move |seen: &mut PortsObservation| {
            seen.tuples[0] = tuple(800, 200);
            (seen.settings.tw_reuse, seen.tuples[0].recyclable) = (tw_reuse, 200);
            seen.tuples[0].destination = "127.0.0.1".parse().unwrap();
        }
    };
    assert!(!advice(local(TwReuse::Loopback)).contains("tcp_tw_reuse"), "it is in force");
    assert!(advice(local(TwReuse::Off)).contains("tcp_tw_reuse=1"));
    let refused = |protocol: &'static str| {
        move |seen: &mut PortsObservation| {
            seen.tuples.clear();
            seen.conflicts = vec![conflict(protocol, "10.0.0.5", 0, 7)];
        }
    };
    assert!(advice(refused("tcp")).starts_with("Set IP_BIND_ADDRESS_NO_PORT"));
    assert!(advice(refused("udp")).starts_with("Widen the range"), "an option of TCP");
}
