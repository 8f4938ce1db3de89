//! Cost of socket events, from the kernel's own statistics of programs, while real connections come and go.
//!
//! What the statistics say of a program holds a reading of the clock for each run, which a virtual machine may take
//! longer for than the program does for its work. So a program that does nothing sees the same events, and a cost is
//! what is above it. Loopback is watched, so that everything is on.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tracker_user::kernel::{self, KernelHandle, KernelThread};

use super::report::{self, median};
use crate::{namespace::Namespace, prog_test_run::EmptySocketEvents};

const ROUNDS: usize = 5;
/// How long the kernel side may take to start.
const START: Duration = Duration::from_secs(30);
const CONNECTIONS: u32 = 5_000;
/// Time inside BPF of one connection, both ends, over the empty program, nanoseconds.
const CONNECTION: f64 = 1_000.0;

/// What the kernel says of a program's runs.
#[derive(Clone, Copy)]
struct Runs {
    count: u64,
    nanoseconds: f64,
}

impl Runs {
    fn since(self, before: Self) -> Self {
        Self { count: self.count - before.count, nanoseconds: self.nanoseconds - before.nanoseconds }
    }

    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 events")]
    fn per_event(self) -> f64 {
        self.nanoseconds / self.count as f64
    }

    fn per_connection(self) -> f64 {
        self.nanoseconds / f64::from(CONNECTIONS)
    }
}

/// Measures connections over loopback in a namespace of their own, with the default settings of the daemon.
#[expect(clippy::too_many_lines, reason = "one measurement after the other")]
pub fn run() -> Result<Vec<report::Result>> {
    let namespace = Namespace::new()?;
    namespace.ip("link set lo up")?;
    namespace.enter(|| -> Result<_> {
        let settings = kernel::Settings {
            // Handshakes are looked for in the sample of SYNs only if those are seen.
            interfaces: vec!["lo".into()],
            census_interval: Duration::from_hours(1),
            ..kernel::Settings::default()
        };
        let (kernel, ends) = KernelHandle::new();
        let kernel_thread = KernelThread::start(&settings, ends)?;
        let deadline = Instant::now() + START;
        while kernel.snapshot().is_none() {
            ensure!(Instant::now() < deadline, "no first snapshot within {START:?}");
            thread::sleep(Duration::from_millis(20));
        }
        let mut empty = EmptySocketEvents::attach()?;
        let _statistics = kernel::statistics().context("switch on the kernel's statistics of programs")?;
        let mut results = Vec::new();
        for (family, address) in
            [("IPv4", SocketAddr::from((Ipv4Addr::LOCALHOST, 0))), ("IPv6", (Ipv6Addr::LOCALHOST, 0).into())]
        {
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                rounds.push(round(&kernel, &mut empty, address)?);
            }
            let of = |figure: fn(&(Runs, Runs)) -> f64| median(rounds.iter().map(figure).collect());
            results.extend([
                report::Result::reference(
                    format!("socket event: {family}, empty"),
                    of(|(_, empty)| empty.per_event()),
                    "ns",
                ),
                report::Result::reference(format!("socket event: {family}"), of(|(ours, _)| ours.per_event()), "ns"),
                report::Result::reference(
                    format!("connection, both ends: {family}, as the kernel tells it"),
                    of(|(ours, _)| ours.per_connection()),
                    "ns",
                ),
                report::Result::budgeted(
                    format!("connection, both ends: {family}, over the empty program"),
                    of(|(ours, empty)| ours.per_connection() - empty.per_connection()),
                    "ns",
                    CONNECTION,
                ),
            ]);
        }
        drop(kernel_thread);
        Ok(results)
    })
}

/// Connects, closes, and returns the runs of both programs meanwhile: tracker's and the empty one.
fn round(kernel: &KernelHandle, empty: &mut EmptySocketEvents, address: SocketAddr) -> Result<(Runs, Runs)> {
    let before = ran(kernel, empty)?;
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
    let after = ran(kernel, empty)?;
    let (ours, nothing) = (after.0.since(before.0), after.1.since(before.1));
    // Client: SYN_SENT, ESTABLISHED, CLOSE_WAIT, LAST_ACK, CLOSE. Server: SYN_RECV, ESTABLISHED, FIN_WAIT1, FIN_WAIT2,
    // CLOSE.
    let all = u64::from(CONNECTIONS) * 10;
    for runs in [ours, nothing] {
        // A few of others may come in between: the programs see the whole host.
        ensure!((all..all + all / 50).contains(&runs.count), "{} events of {CONNECTIONS} connections", runs.count);
    }
    Ok((ours, nothing))
}

fn ran(kernel: &KernelHandle, empty: &mut EmptySocketEvents) -> Result<(Runs, Runs)> {
    // The snapshot is read once a second.
    thread::sleep(Duration::from_millis(1100));
    let snapshot = kernel.snapshot().context("no snapshot")?;
    let program = snapshot.programs.iter().find(|program| program.kind == "tp_btf" || program.kind == "raw_tp");
    let program = program.context("no program sees socket events")?;
    let (count, time) = empty.ran()?;
    Ok((
        Runs { count: program.run_count, nanoseconds: program.run_seconds * 1e9 },
        Runs { count, nanoseconds: time.as_secs_f64() * 1e9 },
    ))
}
