//! Cost of a census: all sockets by state and destination, beside `ss -tan`; and how long an answer of a new one takes.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::report::{self, median};
use crate::{
    Family,
    api::Api,
    daemon::Daemon,
    detection::lab::{Memory, raise_limits},
    namespace::Namespace,
    peer::{Calls, Peer},
    server::{ListenOptions, listen},
    ss,
};

const ROUNDS: usize = 5;
/// Connections of one client process to one destination: fewer than it may have files open, and than there are ports.
const EACH: u32 = 19_000;
/// Connections wait to be accepted, and so need no descriptor: the limit of that queue.
const BACKLOG: u32 = 65_535;
/// Sockets of the namespace, and at most this for a census of them, milliseconds.
const SIZES: [(u32, f64); 3] = [(100_000, 20.0), (300_000, 50.0), (1_000_000, 150.0)];
/// The daemon's own memory, MB.
const RESIDENT: f64 = 20.0;

/// Measures established connections over loopback in a namespace of their own.
pub fn run() -> Result<Vec<report::Result>> {
    raise_limits()?;
    let namespace = Namespace::new()?;
    namespace.ip("link set lo up")?;
    let daemon = Daemon::start(&namespace)?;
    let api = Api::at(daemon.socket());
    namespace.sysctl("net.core.somaxconn", &BACKLOG.to_string())?;
    let (mut results, mut clients) = (Vec::new(), Clients::default());
    for (sockets, budget) in SIZES {
        clients.connect(&namespace, sockets / 2)?;
        let there = ss::count(&namespace, Family::Ipv4)?.get("established").copied().unwrap_or_default();
        ensure!(there == u64::from(sockets), "{there} sockets are established");
        let (mut passes, mut answers, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let ports = api.counted_ports()?;
            answers.push(milliseconds(begun.elapsed()));
            let counted: u32 = ports.ports.iter().map(|row| row.in_use).sum();
            ensure!(
                u64::from(counted) + ports.namespaces[0].rest.sockets == there / 2,
                "{counted} ports of {there} sockets"
            );
            passes.push(api.fresh_status()?.census.context("no census")?.seconds * 1e3);
            let begun = Instant::now();
            ss::count(&namespace, Family::Ipv4)?;
            others.push(milliseconds(begun.elapsed()));
        }
        let of = |what: &str| format!("{what}, {sockets} sockets");
        results.push(report::Result::reference(of("ss -tan"), median(others), "ms"));
        results.push(report::Result::budgeted(of("census"), median(passes), "ms", budget));
        // With the pause that keeps those who ask from taking the CPU, and with processes when it was time for these.
        results.push(report::Result::reference(of("until /v1/ports has a new one"), median(answers), "ms"));
        #[expect(clippy::cast_precision_loss, reason = "megabytes")]
        let resident = Memory::of(daemon.pid())?.resident as f64 / 1e6;
        results.push(report::Result::budgeted(of("resident memory"), resident, "MB", RESIDENT));
    }
    Ok(results)
}

/// Processes that hold connections, and where these go.
#[derive(Default)]
struct Clients {
    processes: Vec<(Peer, TcpListener)>,
    connections: u32,
}

impl Clients {
    /// Connects until there are that many.
    fn connect(&mut self, namespace: &Namespace, wanted: u32) -> Result<()> {
        while self.connections < wanted {
            let target: SocketAddr = (Ipv4Addr::LOCALHOST, 1_000 + u16::try_from(self.processes.len())?).into();
            let options = ListenOptions { backlog: BACKLOG.cast_signed(), ..ListenOptions::default() };
            let listener = listen(namespace, target, options)?;
            let client = Peer::start(namespace, "client")?;
            let count = EACH.min(wanted - self.connections);
            let tally = client.call(&Calls::held(target, count))?;
            ensure!(tally.connected == count, "{tally:?}");
            self.processes.push((client, listener));
            self.connections += count;
        }
        Ok(())
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
