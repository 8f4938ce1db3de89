use tracker_common::state;

use crate::ports::{
    ConflictSeen, PortSettings, PortWatch, PortsSeen, TwReuse,
    testing::{NETNS, failure, seen, tuple, wall},
};
use tracker_model::{api::PortHolder, process::Process};

/// The advice for a tuple that is nearly full.
fn advice(change: impl FnOnce(&mut PortsSeen)) -> String {
    let mut watch = PortWatch::default();
    let mut seen = seen(0.0, vec![tuple(50, 900)]);
    seen.settings.tw_reuse = TwReuse::Loopback;
    seen.tuples[0].recyclable = 850;
    change(&mut seen);
    watch.step(&seen);
    watch.alerts().remove(0).advice
}

#[test]
fn advice_is_only_what_would_help() {
    let keep = "Keep connections and use them again (HTTP keep-alive, a connection pool): each of the 900 ports in TIME_WAIT is \
                taken for 60 s by a connection that was closed here.";
    let reuse = "sysctl net.ipv4.tcp_tw_reuse=1 lets connect() take 850 of the ports in TIME_WAIT at once.";
    let widen = "Widen the range: sysctl net.ipv4.ip_local_port_range=\"1024 65535\" has 64,512 ports instead of 1,000; reserve \
                 those of your own services (net.ipv4.ip_local_reserved_ports).";
    let more = "Each further source address, destination address or destination port has as many ports again.";
    assert_eq!(advice(|_| {}), [keep, reuse, widen, more].join(" "));
    let no_timestamps = |seen: &mut PortsSeen| seen.tuples[0].recyclable = 0;
    assert_eq!(advice(no_timestamps), [keep, widen, more].join(" "));
    let open = |seen: &mut PortsSeen| {
        seen.tuples[0] = tuple(900, 50);
        seen.tuples[0].states[usize::from(state::CLOSE_WAIT)] = 40;
        seen.tuples[0].processes = vec![PortHolder { pid: 815, comm: "nginx".to_owned(), ports: 930 }];
    };
    let close = "Close connections that are idle or leaked: nginx (pid 815) holds 930.";
    assert_eq!(advice(open), [close, widen, more].join(" "));
    let leaks = |seen: &mut PortsSeen| {
        open(seen);
        seen.tuples[0].states[usize::from(state::CLOSE_WAIT)] = 200;
    };
    assert!(advice(leaks).contains("holds 930. 200 are in CLOSE_WAIT: the peer has closed them"));
    let taken = |seen: &mut PortsSeen| {
        seen.settings =
            PortSettings { reserved: "1024-20000".parse().unwrap(), low: 1_024, high: 65_535, ..Default::default() };
        seen.bound = (20_001..65_000).collect();
    };
    let advice = advice(taken);
    assert!(
        advice.contains("Free reserved ports: net.ipv4.ip_local_reserved_ports takes 18,977 out of the range."),
        "{advice}"
    );
    assert!(advice.contains("passes over the 44,999 ports of the range that are bound by bind()"), "{advice}");
    assert!(!advice.contains("Widen"), "{advice}");
}

#[test]
fn settings_that_are_not_why_are_not_advised() {
    let mut watch = PortWatch::default();
    let mut seen = seen(10.0, vec![tuple(40, 0)]);
    seen.failures = vec![failure(2, 9.0, 9.5)];
    watch.step(&seen);
    let advice = watch.alerts().remove(0).advice;
    assert!(advice.contains("IP_LOCAL_PORT_RANGE") && !advice.contains("sysctl"), "{advice}");
    let mut watch = PortWatch::default();
    seen.tuples = vec![tuple(1_000, 0)];
    watch.step(&seen);
    assert!(watch.alerts().iter().all(|alert| alert.advice.contains("Widen the range: sysctl")));
}

#[test]
fn an_option_of_tcp_is_not_advised_for_udp() {
    let refused = |protocol: &str| {
        let mut watch = PortWatch::default();
        let mut seen = seen(10.0, Vec::new());
        seen.conflicts = vec![ConflictSeen {
            netns: NETNS,
            protocol: protocol.to_owned(),
            address: "10.0.0.5".parse().unwrap(),
            port: 0,
            process: Process { pid: 7, comm: "dig".to_owned() },
            cgroup: 1,
            uid: 0,
            count: 1,
            first: wall(8.0),
            last: wall(9.0),
            holders: Vec::new(),
        }];
        watch.step(&seen);
        watch.alerts().remove(0).advice
    };
    assert!(refused("tcp").starts_with("Set IP_BIND_ADDRESS_NO_PORT"), "{}", refused("tcp"));
    assert!(refused("udp").starts_with("Widen the range"), "{}", refused("udp"));
}

#[test]
fn reuse_that_is_in_force_is_not_advised() {
    let local = |seen: &mut PortsSeen| {
        seen.tuples[0] = tuple(800, 150);
        seen.tuples[0].recyclable = 150;
        seen.tuples[0].destination = "127.0.0.1".parse().unwrap();
    };
    assert!(!advice(local).contains("tcp_tw_reuse"));
    let off = |seen: &mut PortsSeen| {
        local(seen);
        seen.settings.tw_reuse = TwReuse::Off;
        seen.tuples[0].recyclable = 150;
        seen.tuples[0].states[usize::from(state::TIME_WAIT)] = 200;
        seen.tuples[0].recyclable = 200;
    };
    assert!(advice(off).contains("tcp_tw_reuse=1"));
}
