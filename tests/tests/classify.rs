//! The classifier on the host: against the table, against etherparse, and against itself.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use tracker_common::classify::{Family, Frame, Header, Outcome, Packet, any_ethernet, ethernet, raw_ip};
use tracker_tests::frames::build::{Extension, Peers, Recipe};
use tracker_tests::frames::numbers::{ACK, DESTINATION_OPTIONS, FRAGMENT, PSH, SYN, TCP};
use tracker_tests::frames::{SHORTEST_IN_KERNEL, generate, oracle, table};

/// Generated frames, in streams of their own that share the machine's processors.
const STREAMS: u64 = 4;
const FRAMES_PER_STREAM: usize = 250_000;
/// Each outcome must occur so often among them.
const OCCURRENCES: usize = 1_000;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[test]
fn table_case_by_case() {
    let wrong: Vec<_> = table::cases(&Peers::default())
        .into_iter()
        .filter_map(|case| {
            let packet = ethernet(case.frame.as_slice());
            let right = (packet.outcome, packet.family) == (case.outcome, case.family);
            (!right).then(|| {
                let table::Case { name, frame, outcome, family } = case;
                format!(
                    "{name}: {:?} {:?}, must be {outcome:?} {family:?}: {}",
                    packet.outcome,
                    packet.family,
                    hex(&frame)
                )
            })
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn table_is_wide_and_its_names_are_unique() {
    let cases = table::cases(&Peers::default());
    let names: HashSet<_> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "a name is there twice");
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let in_kernel = cases.iter().filter(|case| case.frame.len() >= SHORTEST_IN_KERNEL).count();
    assert!(in_kernel >= 60, "{in_kernel} cases for the kernel");
    for outcome in Outcome::ALL {
        assert!(cases.iter().any(|case| case.outcome == outcome), "no case of {}", outcome.name());
    }
}

#[test]
fn oracle_agrees_with_the_table() {
    for case in table::cases(&Peers::default()) {
        assert_eq!(oracle::classify(&case.frame), (case.outcome, case.family), "{}: {}", case.name, hex(&case.frame));
    }
}

/// What generated frames were, summed over all streams.
#[derive(Default)]
struct Seen {
    outcomes: [usize; Outcome::COUNT],
}

#[test]
fn a_million_generated_frames_agree_with_the_oracle() {
    let seen = Mutex::new(Seen::default());
    std::thread::scope(|scope| {
        for seed in 0..STREAMS {
            let seen = &seen;
            scope.spawn(move || {
                let mut outcomes = [0; Outcome::COUNT];
                for (index, frame) in generate::stream_from(seed, 0).take(FRAMES_PER_STREAM).enumerate() {
                    let packet = compare(&frame, seed, index);
                    outcomes[packet.outcome as usize] += 1;
                }
                let mut seen = seen.lock().unwrap();
                for (sum, count) in seen.outcomes.iter_mut().zip(outcomes) {
                    *sum += count;
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap();
    for (outcome, count) in Outcome::ALL.into_iter().zip(seen.outcomes) {
        println!("{:<20}{count:>8}", outcome.name());
    }
    for (outcome, count) in Outcome::ALL.into_iter().zip(seen.outcomes) {
        assert!(count >= OCCURRENCES, "{} occurred {count} times", outcome.name());
    }
}

/// The classifier's answer, after it was found to be the oracle's.
fn compare(frame: &[u8], seed: u64, index: usize) -> Packet {
    let packet = ethernet(frame);
    let verdict = oracle::judge(frame);
    let place = || format!("seed {seed}, index {index}: {}", hex(frame));
    assert_eq!((packet.outcome, packet.family), (verdict.outcome, verdict.family), "{}", place());
    if let Some(destination) = verdict.destination {
        assert_eq!(destination_of(frame, &packet), destination, "{}", place());
    }
    // The short way for plain frames says what the long one does, also when a hook reaches only a part of the frame.
    let readable = index % (frame.len() + 1);
    for offloaded in [false, true] {
        let part = Buffer { readable, offloaded, ..Buffer::of(frame) };
        assert_eq!(ethernet(&part), any_ethernet(&part), "{readable} readable, {offloaded}, {}", place());
    }
    assert_eq!(packet, any_ethernet(frame), "{}", place());
    packet
}

/// Address and port at the offsets that the classifier found.
fn destination_of(frame: &[u8], packet: &Packet) -> SocketAddr {
    let address = match packet.family {
        Family::Ipv4 => IpAddr::from(*frame[packet.network + 16..].first_chunk::<4>().unwrap()),
        _ => IpAddr::from(*frame[packet.network + 24..].first_chunk::<16>().unwrap()),
    };
    let port = frame.header::<u16>(packet.transport + 2).map(u16::from_be);
    SocketAddr::new(address, port.unwrap())
}

#[test]
fn kernel_sized_stream_has_every_outcome() {
    let mut outcomes = HashSet::new();
    for (index, frame) in generate::stream(99).take(20_000).enumerate() {
        assert!((SHORTEST_IN_KERNEL..=generate::LONGEST).contains(&frame.len()), "index {index}");
        outcomes.insert(compare(&frame, 99, index).outcome);
    }
    assert_eq!(outcomes.len(), Outcome::COUNT);
}

#[test]
fn raw_ip_agrees_with_ethernet() {
    let table = table::cases(&Peers::default()).into_iter().map(|case| case.frame);
    let mut compared = 0;
    for frame in table.chain(generate::stream_from(100, 0).take(50_000)) {
        let framed = ethernet(frame.as_slice());
        let packet = frame.get(framed.network..).unwrap_or_default();
        // Without Ethernet the first four bits alone tell the protocol.
        let same_family = match packet.first().map(|byte| byte >> 4) {
            Some(4) => framed.family == Family::Ipv4,
            Some(6) => framed.family == Family::Ipv6,
            _ => false,
        };
        if !same_family {
            continue;
        }
        if packet.len() < 2 {
            continue; // raw_ip reads the version in a word of two bytes
        }
        let raw = raw_ip(packet);
        let transport = framed.transport.saturating_sub(framed.network);
        let expected = Packet { network: 0, transport, ..framed };
        assert_eq!(raw, expected, "{}", hex(&frame));
        compared += 1;
    }
    assert!(compared > 30_000, "{compared} compared");
}

#[test]
fn raw_ip_tells_the_protocol_by_the_version() {
    for (bytes, outcome) in [
        (&[][..], Outcome::Truncated),
        (&[0x00; 40], Outcome::NonIp),
        (&[0x50; 40], Outcome::NonIp),
        (&[0xf0; 40], Outcome::NonIp),
    ] {
        let packet = raw_ip(bytes);
        assert_eq!((packet.outcome, packet.family), (outcome, Family::None), "{}", hex(bytes));
    }
    for (first, family) in [(0x45, Family::Ipv4), (0x60, Family::Ipv6)] {
        let packet = raw_ip(&[first; 10][..]);
        assert_eq!((packet.outcome, packet.family), (Outcome::Truncated, family));
    }
}

/// A frame as the kernel may hold it.
struct Buffer<'a> {
    bytes: &'a [u8],
    /// Bytes within the hook's reach; the rest stands in pages of a non-linear buffer.
    readable: usize,
    offloaded: bool,
}

impl<'a> Buffer<'a> {
    /// As it is on the wire.
    fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, readable: bytes.len(), offloaded: false }
    }
}

impl Frame for Buffer<'_> {
    fn length(&self) -> usize {
        self.bytes.len()
    }

    fn is_offloaded(&self) -> bool {
        self.offloaded
    }

    fn header<H: Header>(&self, offset: usize) -> Option<H> {
        self.bytes[..self.readable].header(offset)
    }
}

/// Merged packets (GRO) may be too long for IP's length fields, which then say zero.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
#[test]
fn offloaded_packets_may_state_no_length() {
    let peers = Peers::default();
    let (v4, v6) = (Recipe::ipv4(&peers), Recipe::ipv6(&peers));
    let data = [0x55; 1200];
    let chain = [Extension::common(DESTINATION_OPTIONS)];
    let first = [Extension::Fragment { offset: 0, more: true }];
    let cases = [
        ("ipv4 syn", v4.clone().tcp(SYN).build().total_length(0), Outcome::TcpSyn, Outcome::MalformedLength),
        (
            "ipv4 data",
            v4.clone().tcp(ACK).payload(&data).build().total_length(0),
            Outcome::TcpAck,
            Outcome::MalformedLength,
        ),
        ("ipv4 udp", v4.clone().udp().payload(&data).build().total_length(0), Outcome::Udp, Outcome::MalformedLength),
        ("ipv6 syn", v6.clone().tcp(SYN).build().payload_length(0), Outcome::TcpSyn, Outcome::MalformedLength),
        (
            "ipv6 data",
            v6.clone().tcp(ACK | PSH).payload(&data).build().payload_length(0),
            Outcome::TcpAck,
            Outcome::MalformedLength,
        ),
        (
            "ipv6 options",
            v6.clone().extensions(&chain).tcp(SYN).build().payload_length(0),
            Outcome::TcpSyn,
            Outcome::MalformedLength,
        ),
        (
            "ipv6 fragment",
            v6.clone().extensions(&first).protocol(TCP).build().payload_length(0),
            Outcome::Fragment,
            Outcome::MalformedLength,
        ),
        // A length that is stated counts as ever.
        ("ipv4 stated", v4.clone().tcp(SYN).build(), Outcome::TcpSyn, Outcome::TcpSyn),
        (
            "ipv4 short",
            v4.clone().tcp(SYN).build().total_length(19),
            Outcome::MalformedLength,
            Outcome::MalformedLength,
        ),
        ("ipv4 above", v4.clone().tcp(SYN).build().total_length(41), Outcome::Truncated, Outcome::Truncated),
        ("ipv4 in tcp", v4.tcp(SYN).build().total_length(30), Outcome::MalformedLength, Outcome::MalformedLength),
        ("ipv6 above", v6.clone().tcp(SYN).build().payload_length(21), Outcome::Truncated, Outcome::Truncated),
        (
            "ipv6 in tcp",
            v6.clone().tcp(SYN).build().payload_length(19),
            Outcome::MalformedLength,
            Outcome::MalformedLength,
        ),
        ("ipv6 cut", v6.protocol(FRAGMENT).build().payload_length(0).cut(50), Outcome::Truncated, Outcome::Truncated),
    ];
    for (name, frame, offloaded, plain) in cases {
        let merged = Buffer { offloaded: true, ..Buffer::of(&frame.bytes) };
        assert_eq!(ethernet(&merged).outcome, offloaded, "{name}, offloaded");
        assert_eq!(ethernet(frame.bytes.as_slice()).outcome, plain, "{name}, as it is on the wire");
    }
}

#[test]
fn bytes_out_of_reach_make_a_packet_unparsed_and_nothing_else() {
    for case in table::cases(&Peers::default()) {
        let whole = ethernet(case.frame.as_slice());
        for readable in 0..case.frame.len().min(200) {
            let partial = ethernet(&Buffer { readable, ..Buffer::of(&case.frame) });
            let unparsed = partial.outcome == Outcome::Unparsed;
            assert!(unparsed || partial == whole, "{} with {readable} readable: {partial:?}", case.name);
        }
    }
    let syn = Recipe::ipv4(&Peers::default()).tcp(SYN).payload(&[0; 10]).build().bytes;
    let outcome = |readable| ethernet(&Buffer { readable, ..Buffer::of(&syn) }).outcome;
    // TCP's fixed header has to be there; what it carries has not.
    assert_eq!((outcome(34 + 19), outcome(34 + 20)), (Outcome::Unparsed, Outcome::TcpSyn));
}
