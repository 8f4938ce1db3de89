//! Cost of a packet, by `BPF_PROG_TEST_RUN`.
//!
//! All cases run in turn, round by round, so that a machine that changes its speed changes it for all; a cost is the
//! median over the rounds of the difference to the empty program of the same round.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::Instant,
};

use anyhow::{Result, ensure};
use tracker_common::{classify::Outcome, counters::SynTarget};

use super::report::{self, median};
use crate::{
    frames::{
        build::{Peers, Recipe},
        numbers::{ACK, SYN, VLAN},
    },
    namespace::Namespace,
    prog_test_run::{AttachedLookup, LookupProgram, ProgTestRun, Program},
    sk_lookup::SocketLookup,
};

const ROUNDS: usize = 15;
const REPEAT: u32 = 1_000_000;
/// Budget of a packet without SYN, nanoseconds over the empty program.
const NO_SYN: f64 = 8.0;
/// Budget of a SYN, nanoseconds over the empty program.
const WITH_SYN: f64 = 60.0;
const LISTENING: u16 = 80;
const LISTENING_AT: u16 = 81;
const SHARING: u16 = 82;
const CLOSED: u16 = 83;

struct Case {
    name: String,
    program: Program,
    frame: Vec<u8>,
    budget: Option<f64>,
}

/// Measures both programs on packets of both families.
pub fn run() -> Result<Vec<report::Result>> {
    let mut trial = ProgTestRun::load()?;
    let peers = Peers::default();
    trial.add_local(IpAddr::V4(peers.destination_ipv4))?;
    trial.add_local(IpAddr::V6(peers.destination_ipv6))?;
    trial.add_listener(LISTENING)?;
    for address in [IpAddr::V4(peers.destination_ipv4), IpAddr::V6(peers.destination_ipv6)] {
        trial.add_listener_at((address, LISTENING_AT).into(), false)?;
        trial.add_listener_at((address, SHARING).into(), true)?;
    }
    check(&mut trial, &peers)?;
    let mut results = Vec::new();
    for (hook, empty, program) in [("xdp", Program::EmptyXdp, Program::Xdp), ("tc", Program::EmptyTc, Program::Tc)] {
        results.extend(measure(&mut trial, &cases(hook, empty, program, &peers))?);
    }
    results.extend(lookups(&mut trial, &peers)?);
    results.extend(datagrams()?);
    Ok(results)
}

/// What TCP's lookup of a listening socket costs more, for a SYN; and that of UDP for a datagram.
fn lookups(trial: &mut ProgTestRun, peers: &Peers) -> Result<Vec<report::Result>> {
    let ends = |ipv6: bool, port: u16| -> (SocketAddr, SocketAddr) {
        if ipv6 {
            ((peers.source_ipv6, 40_000).into(), (peers.destination_ipv6, port).into())
        } else {
            ((peers.source_ipv4, 40_000).into(), (peers.destination_ipv4, port).into())
        }
    };
    let mut cases = Vec::new();
    for (family, ipv6) in [("IPv4", false), ("IPv6", true)] {
        for (what, protocol, port, budget) in [
            ("SYN to a listener", libc::IPPROTO_TCP, LISTENING, WITH_SYN),
            ("SYN to none", libc::IPPROTO_TCP, CLOSED, WITH_SYN),
            ("UDP", libc::IPPROTO_UDP, LISTENING, NO_SYN),
        ] {
            let (remote, local) = ends(ipv6, port);
            cases.push((format!("sk_lookup: {family} {what}"), SocketLookup::new(protocol, remote, local)?, budget));
        }
    }
    let before = trial.delivered()?;
    let mut times = vec![Vec::with_capacity(ROUNDS); cases.len()];
    let mut empty = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        empty.push(trial.look_up(LookupProgram::Empty, &cases[0].1, REPEAT)?.as_secs_f64() * 1e9);
        for ((_, lookup, _), times) in cases.iter().zip(&mut times) {
            times.push(trial.look_up(LookupProgram::Tracker, lookup, REPEAT)?.as_secs_f64() * 1e9);
        }
    }
    let counted = trial.delivered()? - before;
    ensure!(counted == u64::from(REPEAT) * ROUNDS as u64, "SYNs of IPv4 to a listener counted: {counted}");
    let mut results = vec![report::Result::reference("sk_lookup: empty program", median(empty.clone()), "ns")];
    for ((name, _, budget), times) in cases.into_iter().zip(times) {
        let over = median(times.iter().zip(&empty).map(|(time, empty)| time - empty).collect());
        results.push(report::Result::budgeted(format!("{name}, over the empty program"), over, "ns", budget));
    }
    Ok(results)
}

/// Datagrams sent over loopback to a socket that is not connected, in turn with and without tracker's program in the
/// namespace: the whole way, nanoseconds each.
fn datagrams() -> Result<Vec<report::Result>> {
    const DATAGRAMS: u32 = 100_000;
    let namespace = Namespace::new()?;
    let mut attached = AttachedLookup::load()?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(namespace.enter(|| send_datagrams(DATAGRAMS))?);
        attached.attach(&namespace)?;
        with.push(namespace.enter(|| send_datagrams(DATAGRAMS))?);
        attached.detach()?;
    }
    let more = median(with.iter().zip(&without).map(|(with, without)| with - without).collect());
    Ok(vec![
        report::Result::reference("UDP datagram over loopback, without sk_lookup", median(without), "ns"),
        report::Result::reference("UDP datagram over loopback, with sk_lookup", median(with), "ns"),
        report::Result::reference("UDP datagram over loopback, sk_lookup's part (median of pairs)", more, "ns"),
    ])
}

/// The time that each of `count` datagrams took to be sent, and so to be received: over loopback the sender does both.
fn send_datagrams(count: u32) -> Result<f64> {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let target = receiver.local_addr()?;
    // A full buffer drops, behind the lookup: what is measured stays the same.
    let begun = Instant::now();
    for _ in 0..count {
        sender.send_to(b"tracker", target)?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e9 / f64::from(count))
}

fn recipe(peers: &Peers, ipv6: bool, port: u16) -> Recipe {
    let peers = Peers { destination_port: port, ..*peers };
    if ipv6 { Recipe::ipv6(&peers) } else { Recipe::ipv4(&peers) }
}

fn frame(peers: &Peers, ipv6: bool, port: u16, flags: u8) -> Vec<u8> {
    recipe(peers, ipv6, port).tcp(flags).build().into()
}

fn cases(hook: &str, empty: Program, program: Program, peers: &Peers) -> Vec<Case> {
    let mut cases = vec![Case {
        name: format!("{hook}: empty program"),
        program: empty,
        frame: frame(peers, false, LISTENING, ACK),
        budget: None,
    }];
    // Nobody's: the network and the address of the receiver are other ones.
    let others = Peers {
        destination_ipv4: [203, 0, 113, 9].into(),
        destination_ipv6: [0x2001, 0xdb8, 9, 0, 0, 0, 0, 9].into(),
        ..*peers
    };
    for (family, ipv6) in [("IPv4", false), ("IPv6", true)] {
        let udp: Vec<u8> = recipe(peers, ipv6, LISTENING).udp().build().into();
        let tagged: Vec<u8> = recipe(peers, ipv6, LISTENING).tags(&[VLAN]).tcp(ACK).build().into();
        for (what, frame, budget) in [
            ("no SYN", frame(peers, ipv6, LISTENING, ACK), NO_SYN),
            ("no SYN, with a VLAN tag", tagged, NO_SYN),
            ("UDP", udp, NO_SYN),
            ("SYN to a listener", frame(peers, ipv6, LISTENING, SYN), WITH_SYN),
            ("SYN to a listener at one address", frame(peers, ipv6, LISTENING_AT, SYN), WITH_SYN),
            ("SYN to one that shares its place", frame(peers, ipv6, SHARING, SYN), WITH_SYN),
            ("SYN to none", frame(peers, ipv6, CLOSED, SYN), WITH_SYN),
            ("SYN to another host", frame(&others, ipv6, LISTENING, SYN), WITH_SYN),
        ] {
            let name = format!("{hook}: {family} {what}");
            cases.push(Case { name, program, frame, budget: Some(budget) });
        }
    }
    cases
}

/// The programs do on these frames what the names of the cases say: a fast program that counts nothing is no result.
fn check(trial: &mut ProgTestRun, peers: &Peers) -> Result<()> {
    for program in [Program::Xdp, Program::Tc] {
        for ipv6 in [false, true] {
            trial.counted()?;
            trial.run(program, &frame(peers, ipv6, LISTENING, ACK), 1)?;
            trial.run(program, &frame(peers, ipv6, LISTENING, SYN), 1)?;
            for port in [LISTENING_AT, SHARING, CLOSED] {
                trial.run(program, &frame(peers, ipv6, port, SYN), 1)?;
            }
            let counted = trial.counted()?;
            let family = 1 + usize::from(ipv6);
            ensure!(counted.packets[Outcome::TcpAck as usize][family] == 1, "no-SYN packet not counted: {counted:?}");
            ensure!(counted.syns[SynTarget::Listener as usize][family] == 3, "SYN to a listener not counted");
            ensure!(counted.syns[SynTarget::NoListener as usize][family] == 1, "SYN to none not counted");
        }
    }
    Ok(())
}

fn measure(trial: &mut ProgTestRun, cases: &[Case]) -> Result<Vec<report::Result>> {
    let mut times = vec![Vec::with_capacity(ROUNDS); cases.len()];
    for _ in 0..ROUNDS {
        for (case, times) in cases.iter().zip(&mut times) {
            let nanoseconds = trial.run(case.program, &case.frame, REPEAT)?.as_secs_f64() * 1e9;
            times.push(nanoseconds);
        }
    }
    let empty = times[0].clone();
    let over_empty = |times: &[f64]| median(times.iter().zip(&empty).map(|(time, empty)| time - empty).collect());
    Ok(cases
        .iter()
        .zip(&times)
        .map(|(case, times)| match case.budget {
            Some(budget) => {
                let name = format!("{}, over the empty program", case.name);
                report::Result::budgeted(name, over_empty(times), "ns", budget)
            }
            None => report::Result::reference(&case.name, median(times.clone()), "ns"),
        })
        .collect())
}
