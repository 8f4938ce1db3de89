//! Cost of a socket event, from the kernel's own statistics of programs, while real connections come and go.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tracker_user::kernel::{self, Hook, Kernel, SocketEvents};

use super::report::{self, median};
use crate::namespace::Namespace;

const ROUNDS: usize = 5;
const CONNECTIONS: u32 = 5_000;
/// Time inside BPF of one connection, both ends, nanoseconds.
const CONNECTION: f64 = 1_000.0;

/// Measures connections over loopback in a namespace of their own, with the default settings of the daemon.
pub fn run() -> Result<Vec<report::Result>> {
    let namespace = Namespace::new()?;
    namespace.ip("link set lo up")?;
    namespace.enter(|| -> Result<_> {
        let settings = kernel::Settings {
            interfaces: Vec::new(),
            hook: Hook::Auto,
            socket_events: SocketEvents::Auto,
            btf: None,
            lifetime_sample: 8,
            census_interval: Duration::from_hours(1),
            all_netns: false,
            trace_bind: false,
            kernel_log: false,
            sensitivity: tracker_model::detect::Sensitivity::Medium,
            record: None,
        };
        let kernel = Kernel::start(&settings)?;
        let _statistics = kernel::statistics().context("switch on the kernel's statistics of programs")?;
        let mut results = Vec::new();
        for (family, address) in
            [("IPv4", SocketAddr::from((Ipv4Addr::LOCALHOST, 0))), ("IPv6", (Ipv6Addr::LOCALHOST, 0).into())]
        {
            let (mut per_event, mut per_connection) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let (events, seconds) = round(&kernel, address)?;
                per_event.push(seconds * 1e9 / f64::from(events));
                per_connection.push(seconds * 1e9 / f64::from(CONNECTIONS));
            }
            results.push(report::Result::reference(format!("socket event, {family}"), median(per_event), "ns"));
            let name = format!("socket events of one connection, both ends, {family}");
            results.push(report::Result::budgeted(name, median(per_connection), "ns", CONNECTION));
        }
        kernel.stop();
        Ok(results)
    })
}

/// Connects, closes, and returns how often the program ran meanwhile and for how long.
fn round(kernel: &Kernel, address: SocketAddr) -> Result<(u32, f64)> {
    let before = ran(kernel)?;
    let listener = TcpListener::bind(address)?;
    let target = listener.local_addr()?;
    let server = thread::spawn(move || {
        for stream in listener.incoming().take(CONNECTIONS as usize) {
            drop(stream);
        }
    });
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(target)?;
        // The server closes first, so the client's ports are free again at once.
        std::io::copy(&mut stream, &mut std::io::sink())?;
    }
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))?;
    let after = ran(kernel)?;
    let events = u32::try_from(after.0 - before.0)?;
    // Client: SYN_SENT, ESTABLISHED, CLOSE_WAIT, LAST_ACK, CLOSE. Server: SYN_RECV, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE.
    ensure!(events >= CONNECTIONS * 10, "only {events} events of {CONNECTIONS} connections");
    Ok((events, after.1 - before.1))
}

fn ran(kernel: &Kernel) -> Result<(u64, f64)> {
    // The snapshot is read once a second.
    thread::sleep(Duration::from_millis(1100));
    let snapshot = kernel.snapshot();
    let program = snapshot.programs.iter().find(|program| program.kind == "tp_btf" || program.kind == "raw_tp");
    let program = program.context("no program sees socket events")?;
    Ok((program.run_count, program.run_seconds))
}
