//! Each cause from what would be seen of it. That the kernel shows it so is tested by the lab.

use std::{net::Ipv6Addr, time::Duration};

use tracker_model::{
    api::{Class, Verdict},
    counters::{ByFamily, ListenerQueues, NamespaceCounters},
    delivery::Delivery,
    explain::{DropCount, ListenCause as C, SocketObservation, SocketQueues, StepState, StepSubject, TcpState},
    listener::Listener,
    process::Process,
};

use super::*;
use crate::explain::tests::{process, socket};

const PORT: u16 = 80;

fn server() -> IpAddr {
    [192, 0, 2, 1].into()
}

/// A socket that listens at the port.
fn listening(address: IpAddr) -> SocketObservation {
    let queues = Some(SocketQueues { accept_queue_max: 128, ..SocketQueues::default() });
    let ipv6 = address.is_ipv6();
    let processes = process(815, "nginx");
    SocketObservation { address, port: PORT, ipv6, queues, processes, ..socket(TcpState::Listen) }
}

/// The listener of such a socket after this many SYNs and handshakes.
fn counted(address: IpAddr, syns: u64, handshakes: u64) -> Listener {
    let family =
        |count| if address.is_ipv4() { ByFamily { ipv4: count, ipv6: 0 } } else { ByFamily { ipv4: 0, ipv6: count } };
    let (syns_by_family, completed) = (family(syns), family(handshakes));
    let queues = ListenerQueues { accept_queue_max: 128, syn_queue_max: 128, ..ListenerQueues::default() };
    let delivery = Some(Delivery { delivered: syns, ..Delivery::default() });
    Listener { syns_by_family, completed, delivery, queues: Some(queues), ..Listener::new(1, address, PORT) }.derived()
}

/// Ten IPv4 SYNs by eth0 and as many handshakes, at a wildcard listener.
fn healthy() -> ListenObservation {
    let any: IpAddr = [0, 0, 0, 0].into();
    ListenObservation {
        watched: Duration::from_secs(3),
        is_local: true,
        on_interface: Some(AddressInterface { name: "eth0".to_owned(), up: true, watched: true }),
        interfaces: vec![arrived([10, 0])],
        sockets: vec![listening(any)],
        listeners: [vec![counted(any, 100, 90)], vec![counted(any, 110, 100)]],
        counters: Some([NamespaceCounters::default(); 2]),
        without_listener: Some(WithoutListener::default()),
        settings: ListenSettings { syncookies: Some(1), ..ListenSettings::default() },
        devices: [(2, "eth0".to_owned()), (3, "eth1".to_owned())].into(),
        ..ListenObservation::default()
    }
}

fn arrived(asked: [u64; 2]) -> InterfaceObservation {
    InterfaceObservation { name: "eth0".to_owned(), devices: vec![2], asked, ..InterfaceObservation::default() }
}

/// SYNs arrived, and what reached the listener is this.
fn stopped() -> ListenObservation {
    let any: IpAddr = [0, 0, 0, 0].into();
    let now = Listener { delivery: Some(Delivery { delivered: 100, ..Delivery::default() }), ..counted(any, 110, 90) };
    ListenObservation { listeners: [vec![counted(any, 100, 90)], vec![now]], ..healthy() }
}

fn with_drops(reason: &str, count: u64) -> ListenObservation {
    let mut seen = stopped();
    seen.families[0].dropped = vec![DropCount { reason: reason.to_owned(), count }];
    seen
}

/// Nothing listens at the port, and the kernel drops what comes.
fn without_listener(sockets: Vec<SocketObservation>) -> ListenObservation {
    let delivered = WithoutListener { delivered: 10, diverted: 0 };
    ListenObservation {
        sockets,
        listeners: [Vec::new(), Vec::new()],
        without_listener: Some(delivered),
        ..with_drops("NO_SOCKET", 10)
    }
}

fn explained(seen: &ListenObservation) -> ListenAnswer {
    explain_listen(server(), PORT, seen)
}

#[track_caller]
fn is(seen: &ListenObservation, cause: C, words: &str) -> ListenAnswer {
    let answer = explained(seen);
    assert_eq!(answer.cause, cause, "{answer:#?}");
    assert!(answer.summary.contains(words), "{}", answer.summary);
    assert_eq!(answer.blocked, cause.is_blocking());
    let problems = answer.steps.iter().filter(|step| step.state == StepState::Problem).count();
    assert_eq!(problems, usize::from(answer.blocked), "one step is the cause: {:#?}", answer.steps);
    assert_eq!(answer.advice.is_empty(), cause == C::Fine, "{:#?}", answer.advice);
    answer
}

#[test]
fn all_is_well() {
    let answer = is(&healthy(), C::Fine, "Clients connect to 192.0.2.1:80: 10 handshakes in 3 s");
    assert_eq!((answer.figures.syns, answer.figures.handshakes, answer.figures.delivered), (10, 10, Some(10)));
    let mut waiting = healthy();
    waiting.listeners[1] = vec![counted([0, 0, 0, 0].into(), 110, 90)];
    waiting.listeners[1][0].queues.as_mut().unwrap().waiting_for_data = 10;
    waiting.sockets[0].queues.as_mut().unwrap().syn_queue = 10;
    is(&waiting, C::Fine, "have yet to send the first data");
}

#[test]
fn nothing_arrives() {
    let quiet = || ListenObservation { interfaces: vec![arrived([0, 0])], ..stopped() };
    is(&quiet(), C::NoSyns, "No SYN to 192.0.2.1:80 arrived in 3 s, though something listens there");
    let mut xdp = quiet();
    xdp.interfaces[0].other_xdp = true;
    assert!(is(&xdp, C::NoSyns, "").advice[1].contains("XDP program runs on eth0"));
    let unwatched = AddressInterface { name: "eth1".to_owned(), up: true, watched: false };
    let unwatched = ListenObservation { on_interface: Some(unwatched), ..quiet() };
    is(&unwatched, C::InterfaceNotWatched, "eth1, which has the address, is not watched");
    let down = AddressInterface { name: "eth1".to_owned(), up: false, watched: false };
    is(&ListenObservation { on_interface: Some(down), is_local: false, ..quiet() }, C::InterfaceDown, "eth1, is down");
    let foreign = ListenObservation { is_local: false, on_interface: None, ..quiet() };
    is(&foreign, C::AddressNotLocal, "this host does not have the address");
    // Handshakes by an interface that is not watched, such as loopback.
    let mut local = quiet();
    local.listeners[1][0].completed_unwatched = ByFamily { ipv4: 4, ipv6: 0 };
    is(&local, C::Fine, "4 handshakes");
}

#[test]
fn nothing_listens_there() {
    is(&without_listener(Vec::new()), C::NothingListens, "nothing listens at that port");
    let bound = SocketObservation { port: PORT, processes: process(7, "app"), ..socket(TcpState::Bound) };
    is(
        &without_listener(vec![bound.clone()]),
        C::NothingListens,
        "app (pid 7) has bound the port and not called listen()",
    );
    let udp = SocketObservation { protocol: tracker_model::explain::Protocol::Udp, ..bound };
    is(&without_listener(vec![udp]), C::NothingListens, "app (pid 7) has the port for UDP");
    let other = listening([192, 0, 2, 7].into());
    is(
        &without_listener(vec![other.clone()]),
        C::OtherAddress,
        "nginx (pid 815) listens at 192.0.2.7:80, and not there",
    );
    let loopback = listening([127, 0, 0, 1].into());
    is(&without_listener(vec![loopback.clone()]), C::LoopbackOnly, "127.0.0.1:80 on loopback alone");
    is(&without_listener(vec![other, loopback]), C::OtherAddress, "192.0.2.7:80, 127.0.0.1:80");
    let only6 = SocketObservation { ipv6_only: true, ..listening(Ipv6Addr::UNSPECIFIED.into()) };
    is(&without_listener(vec![only6]), C::Ipv6Only, "for IPv6 alone (IPV6_V6ONLY)");
    // It is certain without anybody who tries, too.
    let quiet = ListenObservation { interfaces: vec![arrived([0, 0])], ..healthy() };
    is(&ListenObservation { sockets: Vec::new(), listeners: Default::default(), ..quiet }, C::NothingListens, "");
}

#[test]
fn another_device_is_bound() {
    let bound = |device| SocketObservation { device, ..listening([0, 0, 0, 0].into()) };
    let answer = is(&without_listener(vec![bound(3)]), C::OtherDevice, "bound to eth1, and SYNs come by eth0");
    assert_eq!(answer.figures.sockets[0].device.as_deref(), Some("eth1"));
    // Where SYNs come by that device, it takes them; so does one bound to the VRF above.
    is(&ListenObservation { sockets: vec![bound(2)], ..healthy() }, C::Fine, "");
}

#[test]
fn the_ipv6_wildcard_is_both_families() {
    let any6 = || -> IpAddr { Ipv6Addr::UNSPECIFIED.into() };
    let answer = explain_listen(any6(), PORT, &healthy());
    assert_eq!((answer.cause, answer.figures.syns), (C::Fine, 10), "nobody comes by IPv6: {answer:#?}");
    // Somebody does.
    let mut both = healthy();
    both.interfaces = vec![arrived([10, 4])];
    both.families[1].dropped = vec![DropCount { reason: "NO_SOCKET".to_owned(), count: 4 }];
    let answer = explain_listen(any6(), PORT, &both);
    assert_eq!((answer.cause, answer.figures.syns), (C::Ipv4Only, 14), "{answer:#?}");
    assert!(answer.summary.starts_with("Nobody can connect to port 80 by IPv6: "), "{}", answer.summary);
    assert!(answer.notes.iter().any(|note| note.contains("Of IPv4 it is otherwise: Clients connect")), "{answer:#?}");
    // A dual-stack listener takes both.
    let mut dual = healthy();
    dual.sockets = vec![listening(any6())];
    let count =
        |handshakes| Listener { completed: ByFamily { ipv4: handshakes, ipv6: 0 }, ..counted(any6(), 0, 0) }.derived();
    dual.listeners = [vec![count(90)], vec![count(100)]];
    assert_eq!(explain_listen(any6(), PORT, &dual).cause, C::Fine);
    assert_eq!(explained(&dual).cause, C::Fine);
}

#[test]
fn something_drops_them() {
    is(&with_drops("NETFILTER_DROP", 10), C::Firewall, "drops the SYNs (10 of 10 SYNs in 3 s)");
    is(&with_drops("IP_RPFILTER", 9), C::ReversePath, "no way back to the clients by eth0 (rp_filter)");
    is(&with_drops("TCP_CSUM", 10), C::BadChecksum, "checksum");
    is(&with_drops("IP_CSUM", 10), C::BadChecksum, "checksum");
    is(&with_drops("TC_INGRESS", 10), C::Dropped, "for the reason TC_INGRESS");
    let mut rejected = with_drops("NETFILTER_DROP", 10);
    rejected.families[0].resets = 10;
    is(&rejected, C::Rejected, "rejects the SYNs");
    let mut rejected = with_drops("NETFILTER_DROP", 10);
    rejected.families[0].unreachables = 10;
    is(&rejected, C::Rejected, "rejects the SYNs");
    let mut partly = healthy();
    partly.families[0].dropped = vec![DropCount { reason: "NETFILTER_DROP".to_owned(), count: 4 }];
    is(&partly, C::FirewallPartly, "Not everybody can connect");
    let mut full = with_drops("NETFILTER_DROP", 10);
    full.settings = ListenSettings { conntrack: Some((65_536, 65_536)), conntrack_drops: 10, ..full.settings };
    assert!(is(&full, C::ConntrackFull, "table of connections is full").advice[0].contains("65536 of 65536"));
    // A full table that dropped nothing is not the cause.
    full.settings.conntrack_drops = 0;
    is(&full, C::Firewall, "");
    // One that is lost among hundreds, or a copy for a packet socket, is none.
    let mut healthy = healthy();
    healthy.interfaces = vec![arrived([1_000, 0])];
    healthy.families[0].dropped = vec![
        DropCount { reason: "PACKET_SOCK_ERROR".to_owned(), count: 900 },
        DropCount { reason: "NETFILTER_DROP".to_owned(), count: 1 },
    ];
    is(&healthy, C::Fine, "");
    let unheard =
        ListenObservation { sockets: Vec::new(), listeners: Default::default(), ..with_drops("NETFILTER_DROP", 10) };
    assert!(is(&unheard, C::Firewall, "").notes.iter().any(|note| note.starts_with("Nothing listens there either")));
}

#[test]
fn something_takes_them() {
    let gone = |sockets| ListenObservation { sockets, listeners: Default::default(), ..stopped() };
    is(&gone(Vec::new()), C::TakenBeforeTcp, "before TCP sees them, and drops none (10 SYNs in 3 s)");
    let diverted = || WithoutListener { delivered: 0, diverted: 10 };
    let elsewhere = |port| Elsewhere {
        address: Some(server()),
        port,
        process: Some(Process { pid: 9, comm: "web".to_owned() }),
        count: 10,
        handshakes: 0,
    };
    let redirected =
        ListenObservation { without_listener: Some(diverted()), elsewhere: vec![elsewhere(8_080)], ..gone(Vec::new()) };
    let words = "a rule sends them to port 8080 of web (pid 9), which completes no handshake (10 SYNs in 3 s)";
    is(&redirected, C::Redirected, words);
    let mut served = redirected.clone();
    served.elsewhere[0].handshakes = 10;
    let answer = explained(&served);
    assert_eq!((answer.cause, answer.blocked), (C::Redirected, false));
    assert!(answer.summary.starts_with("Clients of 192.0.2.1:80 are served at port 8080 of web"), "{}", answer.summary);
    assert!(answer.steps.iter().all(|step| step.state != StepState::Problem), "{:#?}", answer.steps);
    let connected = SocketObservation { address: server(), port: PORT, ..socket(TcpState::Established) };
    let proxied = ListenObservation { sockets: vec![connected], ..redirected };
    is(&proxied, C::TransparentProxy, "served by a transparent proxy at port 8080 of web (pid 9): 10 SYNs");
    // Past a listener: nothing reaches it, nothing is dropped, and the host forwards as much.
    let mut forwarded = stopped();
    forwarded.families[0].forwarded = 25;
    is(
        &forwarded,
        C::Forwarded,
        "10 SYNs in 3 s were forwarded to another namespace or host, and packets come back too",
    );
    forwarded.families[0].forwarded = 10;
    is(&forwarded, C::Forwarded, "and nothing comes back");
    is(&stopped(), C::TakenBeforeTcp, "something takes the SYNs");
    // Repeats of SYNs whose requests wait are not looked up again, and count as dropped.
    let mut repeated = with_drops("NOT_SPECIFIED", 5);
    repeated.sockets[0].queues = Some(SocketQueues { syn_queue: 3, accept_queue_max: 128, ..SocketQueues::default() });
    is(&repeated, C::AnswersLost, "");
}

#[test]
fn where_the_kernel_does_not_show_what_reaches_tcp_other_signs_serve() {
    let blind = |seen: ListenObservation| {
        let without = |listeners: Vec<Listener>| {
            listeners.into_iter().map(|listener| Listener { delivery: None, ..listener }).collect::<Vec<_>>()
        };
        let listeners = seen.listeners.clone().map(without);
        ListenObservation { without_listener: None, listeners, ..seen }
    };
    assert_eq!(explained(&blind(healthy())).cause, C::Fine);
    assert_eq!(explained(&blind(healthy())).figures.delivered, None);
    assert_eq!(explained(&blind(without_listener(Vec::new()))).cause, C::NothingListens);
    assert_eq!(explained(&blind(with_drops("NETFILTER_DROP", 10))).cause, C::Firewall);
    let other =
        |syns, handshakes| Listener { port: 8_080, delivery: None, ..counted([0, 0, 0, 0].into(), syns, handshakes) };
    let listeners = [vec![other(5, 5)], vec![other(6, 16)]];
    let went = went_elsewhere(&listeners, PORT);
    assert_eq!(went.iter().map(|to| (to.port, to.count)).collect::<Vec<_>>(), [(8_080, 10)]);
    let redirected = ListenObservation { sockets: Vec::new(), elsewhere: went, listeners, ..blind(stopped()) };
    assert_eq!(explained(&redirected).cause, C::Redirected);
    let unknown =
        ListenObservation { drops_unknown: Some("refused".to_owned()), ..blind(without_listener(Vec::new())) };
    let answer = explained(&unknown);
    assert_eq!((answer.cause, answer.figures.dropped), (C::NothingListens, None));
    assert!(answer.notes.iter().any(|note| note.contains("is not known: refused")), "{:#?}", answer.notes);
}

#[test]
fn went_elsewhere_is_what_was_sent_to_this_port() {
    let diverted = |here, from| Listener {
        port: 8_080,
        delivery: Some(Delivery { diverted_here: here, ..Delivery::default() }),
        diverted_from: Some(from),
        ..counted([0, 0, 0, 0].into(), 0, 0)
    };
    assert_eq!(went_elsewhere(&[vec![diverted(3, PORT)], vec![diverted(10, PORT)]], PORT)[0].count, 7);
    assert_eq!(went_elsewhere(&[vec![diverted(3, 81)], vec![diverted(10, 81)]], PORT), []);
}

#[test]
fn queues_are_full() {
    let full = SocketQueues { accept_queue: 3, accept_queue_max: 2, ..SocketQueues::default() };
    let at = |queues| SocketObservation { queues: Some(queues), reuse_port: true, ..listening([0, 0, 0, 0].into()) };
    let answer = is(&ListenObservation { sockets: vec![at(full)], ..healthy() }, C::AcceptQueueFull, "(3 of 2)");
    let queues = answer.steps.iter().find(|step| step.subject == StepSubject::Queues).unwrap();
    assert!(queues.text.starts_with("accept queue 3 of 2, SYN queue 0"), "{}", queues.text);
    let free = SocketQueues { accept_queue_max: 2, ..SocketQueues::default() };
    let worker = SocketObservation { processes: process(99, "worker"), ..at(full) };
    let group = ListenObservation { sockets: vec![at(free), worker, at(free)], ..healthy() };
    is(&group, C::StuckSocket, "1 of 3 sockets that share the port do not accept (3 of 2), that of worker (pid 99)");
    // Full to the limit is not beyond it.
    let limit = SocketQueues { accept_queue: 2, ..full };
    is(&ListenObservation { sockets: vec![at(limit)], ..healthy() }, C::Fine, "");

    let mut syn = stopped();
    syn.settings = ListenSettings { syncookies: Some(0), max_syn_backlog: Some(256), ..ListenSettings::default() };
    let queues = syn.listeners[1][0].queues.as_mut().unwrap();
    (queues.syn_queue, queues.drops) = (128, 10);
    syn.listeners[1][0].delivery = Some(Delivery { delivered: 110, ..Delivery::default() });
    is(&syn, C::SynQueueFull, "SYN queue of nginx (pid 815) is full, and SYN cookies are off");
    syn.settings.syncookies = Some(1);
    assert_ne!(explained(&syn).cause, C::SynQueueFull, "cookies take over");
}

#[test]
fn answers_come_to_nothing() {
    let reached = || {
        let mut seen = stopped();
        seen.listeners[1][0].delivery = Some(Delivery { delivered: 110, ..Delivery::default() });
        seen
    };
    let mut dropped = reached();
    dropped.families[0].answers_dropped = vec![DropCount { reason: "NETFILTER_DROP".to_owned(), count: 10 }];
    is(&dropped, C::AnswersDropped, "10 SYN-ACKs dropped on the way out");
    let mut lost = reached();
    let queues = SocketQueues { syn_queue: 5, syn_queue_young: 1, accept_queue_max: 128, ..SocketQueues::default() };
    lost.sockets[0].queues = Some(queues);
    is(&lost, C::AnswersLost, "5 are half-open, 4 of them answered more than once");
    let mut cookies = reached();
    cookies.counters =
        Some([NamespaceCounters::default(), NamespaceCounters { syncookies_sent: 10, ..NamespaceCounters::default() }]);
    is(&cookies, C::AnswersLost, "10 SYN cookies sent");
    let mut reset = reached();
    reset.listeners[1][0].syns_aborted = 10;
    is(&reset, C::ClientsReset, "the clients reset each answer");
    is(&reached(), C::NotKnown, "nothing that stands in the way is seen");
    let mut flood = healthy();
    flood.interfaces = vec![arrived([9_000, 0])];
    flood.listeners[1][0].verdict = Some(Verdict { class: Class::Spoofed, ..Verdict::default() });
    is(&flood, C::Flood, "beside a SYN flood of 9,000 SYNs");
}

#[test]
fn other_addresses_do_not_count_as_this_one() {
    // A wildcard listener serves another address, and no SYN comes to this one.
    let mut seen = healthy();
    seen.interfaces[0] = InterfaceObservation { asked: [0, 0], other: [10, 0], ..arrived([0, 0]) };
    let answer = is(&seen, C::NoSyns, "");
    let is_noted = |note: &String| note.starts_with("10 SYNs came to this port at other addresses");
    assert!(answer.notes.iter().any(is_noted), "{answer:#?}");
    // What a rule sent here from another port is served here.
    let mut diverted = healthy();
    diverted.interfaces[0].asked = [0, 0];
    diverted.listeners[1][0].delivery = Some(Delivery { delivered: 100, diverted_here: 10, ..Delivery::default() });
    let answer = is(&diverted, C::Fine, "10 handshakes");
    assert!(answer.steps[1].text.ends_with("and 10 SYNs that were sent to another port"), "{:#?}", answer.steps);
}
