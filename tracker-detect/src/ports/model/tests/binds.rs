//! Calls of `bind()` that were refused.

use super::*;

/// Three calls for TCP port 80 of all addresses, by nginx.
fn conflict() -> PortConflict {
    testing::conflict("tcp", "::", 80, 7)
}

fn held_by(comm: &str) -> Vec<PortHolder> {
    vec![PortHolder { pid: 5, comm: comm.to_owned(), ports: 1 }]
}

fn look(watch: &mut Watch, at: f64, conflicts: Vec<PortConflict>) -> Vec<Alert> {
    watch.step(&PortsObservation { conflicts, ..seen(at, Vec::new()) });
    watch.alerts()
}

#[test]
fn refused_binds_take_no_place_from_ports_that_run_out() {
    let mut watch = Watch::default();
    let conflicts: Vec<_> = (1..=300).map(|port| PortConflict { port, ..conflict() }).collect();
    look(&mut watch, 10.0, conflicts.clone());
    watch.step(&PortsObservation { conflicts, ..seen(11.0, vec![tuple(950, 0)]) });
    let kinds: Vec<_> = watch.alerts().iter().map(|alert| alert.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == AlertKind::BindConflict).count(), 256);
    assert_eq!(kinds.iter().filter(|kind| **kind == AlertKind::PortExhaustion).count(), 1);
}

#[test]
fn who_holds_the_port_is_named_once_it_is_found() {
    let mut watch = Watch::default();
    let alert = look(&mut watch, 10.0, vec![conflict()]).remove(0);
    assert_eq!(
        (alert.kind, alert.severity, alert.subject.port),
        (AlertKind::BindConflict, Severity::Warning, Some(80))
    );
    assert!(!alert.summary.contains("held by"), "nobody has looked yet");
    let found = PortConflict { holders: held_by("apache2"), ..conflict() };
    let alert = look(&mut watch, 11.0, vec![found.clone()]).remove(0);
    assert_eq!(
        alert.summary,
        "bind() to [::]:80 failed, the address is in use: 3 calls failed, all of nginx (pid 7); held by apache2 (pid 5); since \
         2027-01-15 08:00:08 UTC"
    );
    // Started again and again it is another process each time, for which nobody has looked yet.
    let again =
        |at, pid| PortConflict { process: process("nginx", pid), first: wall(at), last: wall(at), ..conflict() };
    let both = vec![again(11.5, 8), found];
    assert!(look(&mut Watch::default(), 12.0, both.clone())[0].summary.contains("held by apache2"));
    let alert = look(&mut watch, 12.0, both).remove(0);
    assert!(alert.summary.contains("6 calls failed") && alert.summary.contains("held by apache2"), "{}", alert.summary);
    let alert = look(&mut watch, 13.0, vec![again(12.5, 9)]).remove(0);
    assert!(alert.summary.contains("9 calls failed") && alert.summary.contains("held by apache2"), "{}", alert.summary);
}

#[test]
fn bind_is_refused_for_each_protocol_apart() {
    let of = |protocol: &str, port, holder| PortConflict {
        protocol: protocol.to_owned(),
        port,
        holders: held_by(holder),
        ..conflict()
    };
    let conflicts = vec![of("tcp", 53, "named"), of("udp", 53, "dnsmasq"), of("132", 54, "sctpd")];
    let alerts = look(&mut Watch::default(), 10.0, conflicts);
    let shown = |protocol| alerts.iter().find(|alert| alert.subject.protocol == protocol).unwrap();
    let [tcp, udp, other] = [Some(Protocol::Tcp), Some(Protocol::Udp), None].map(shown);
    assert!(tcp.summary.starts_with("bind() to [::]:53 failed") && tcp.summary.contains("held by named"));
    assert!(udp.summary.starts_with("bind() to [::]:53 (UDP) failed") && udp.summary.contains("held by dnsmasq"));
    assert!(udp.advice.ends_with("`tracker explain bind [::]:53 --udp`."), "{}", udp.advice);
    assert!(tcp.advice.ends_with("`tracker explain bind [::]:53`."), "{}", tcp.advice);
    assert!(!other.advice.contains("explain"), "{}", other.advice);
}
