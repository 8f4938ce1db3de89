//! Cost of a census: all sockets by state and destination, beside `ss -tan`, and of the answer that names processes too.

use std::{
    net::{Ipv4Addr, SocketAddr},
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
    sink::{Manner, Sink},
    ss,
};

const ROUNDS: usize = 5;
/// Connections of one destination: fewer than the ports that the kernel chooses from.
const EACH: u32 = 20_000;
/// Sockets of the namespace, at most this for a census and at most this for an answer with processes, milliseconds.
const SIZES: [(u32, f64, f64); 3] =
    [(100_000, 20.0, 500.0), (300_000, 50.0, 1_500.0), (1_000_000, 150.0, f64::INFINITY)];
/// The daemon's own memory, MB.
const RESIDENT: f64 = 20.0;

/// Measures established connections over loopback in a namespace of their own.
pub fn run() -> Result<Vec<report::Result>> {
    raise_limits()?;
    let namespace = Namespace::new()?;
    namespace.ip("link set lo up")?;
    let daemon = Daemon::start(&namespace)?;
    let api = Api::at(daemon.socket());
    let _server = Sink::start(&namespace, (Ipv4Addr::UNSPECIFIED, 80).into(), Manner::Hold)?;
    let client = Peer::start(&namespace, "client")?;
    let (mut results, mut connections) = (Vec::new(), 0);
    for (sockets, budget, with_processes) in SIZES {
        connect(&client, &mut connections, sockets / 2)?;
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
        let name = of("ports and processes, until answered");
        results.push(report::Result::budgeted(name, median(answers), "ms", with_processes));
        #[expect(clippy::cast_precision_loss, reason = "megabytes")]
        let resident = Memory::of(daemon.pid())?.resident as f64 / 1e6;
        results.push(report::Result::budgeted(of("resident memory"), resident, "MB", RESIDENT));
    }
    Ok(results)
}

/// Holds connections until there are so many.
fn connect(client: &Peer, connections: &mut u32, wanted: u32) -> Result<()> {
    while *connections < wanted {
        let [_, _, high, low] = (*connections / EACH + 1).to_be_bytes();
        let target: SocketAddr = (Ipv4Addr::new(127, 1, high, low), 80).into();
        let count = EACH.min(wanted - *connections);
        let tally = client.call(&Calls::held(target, count))?;
        ensure!(tally.connected == count, "{tally:?}");
        *connections += count;
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
