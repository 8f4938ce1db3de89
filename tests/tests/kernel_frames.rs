//! The programs in the kernel, by `BPF_PROG_TEST_RUN`: against the table and against etherparse. Needs root.
#![forbid(unsafe_code)]

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use tracker_common::{
    classify::{Family, Outcome},
    counters::{InterfaceCounters, SynTarget},
};
use tracker_tests::{
    frames::{build::Peers, generate, oracle, runs_in_tc, runs_in_xdp, table},
    prog_test_run::{ProgTestRun, Program},
};

/// Frames that are generated for each program.
const FRAMES: usize = 200_000;
const LISTENING: u16 = 80;

/// Programs to which the receivers of the frames are local, with a listener at port 80.
fn trial(peers: &Peers) -> ProgTestRun {
    let mut trial = ProgTestRun::load().expect("load the programs; are you root?");
    trial.add_local(IpAddr::V4(peers.destination_ipv4)).unwrap();
    trial.add_local(IpAddr::V6(peers.destination_ipv6)).unwrap();
    trial.add_listener(LISTENING).unwrap();
    trial
}

/// Exactly one packet, of this outcome and family; a SYN also by where it goes to.
fn one(outcome: Outcome, family: Family, target: Option<SynTarget>) -> InterfaceCounters {
    let mut counters = InterfaceCounters::default();
    counters.packets[outcome as usize][family as usize] = 1;
    if let Some(target) = target {
        counters.syns[target as usize][family as usize] = 1;
    }
    counters
}

fn target(peers: &Peers, destination: SocketAddr) -> SynTarget {
    let local = [IpAddr::V4(peers.destination_ipv4), IpAddr::V6(peers.destination_ipv6)].contains(&destination.ip());
    match (local, destination.port()) {
        (false, _) => SynTarget::NotLocal,
        (true, LISTENING) => SynTarget::Listener,
        (true, _) => SynTarget::NoListener,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[test]
fn the_table_holds_in_the_kernel() {
    let peers = Peers::default();
    let mut trial = trial(&peers);
    for (program, runs) in [(Program::Xdp, runs_in_xdp as fn(&[u8]) -> bool), (Program::Tc, runs_in_tc)] {
        let cases: Vec<_> = table::cases(&peers).into_iter().filter(|case| runs(&case.frame)).collect();
        assert!(cases.len() >= 60, "{program:?} runs on {} cases", cases.len());
        for case in cases {
            let target = oracle::judge(&case.frame).destination.filter(|_| case.outcome == Outcome::TcpSyn);
            let expected = one(case.outcome, case.family, target.map(|address| self::target(&peers, address)));
            trial.run(program, &case.frame, 1).unwrap();
            assert_eq!(trial.counted().unwrap(), expected, "{program:?}, {}: {}", case.name, hex(&case.frame));
        }
    }
}

#[test]
fn generated_frames_agree_with_etherparse() {
    let peers = Peers::default();
    let mut trial = trial(&peers);
    for (program, runs) in [(Program::Xdp, runs_in_xdp as fn(&[u8]) -> bool), (Program::Tc, runs_in_tc)] {
        let mut targets = [0_u32; SynTarget::COUNT];
        for (index, frame) in generate::stream(1).filter(|frame| runs(frame)).take(FRAMES).enumerate() {
            let verdict = oracle::judge(&frame);
            let target = verdict.destination.filter(|_| verdict.outcome == Outcome::TcpSyn);
            let target = target.map(|address| self::target(&peers, address));
            if let Some(target) = target {
                targets[target as usize] += 1;
            }
            trial.run(program, &frame, 1).unwrap();
            let expected = one(verdict.outcome, verdict.family, target);
            assert_eq!(trial.counted().unwrap(), expected, "{program:?}, frame {index}: {}", hex(&frame));
        }
        assert!(targets.iter().all(|count| *count >= 25), "SYNs by target: {targets:?}");
    }
}
