//! As many connections as the machine can make, on all CPUs at once: none is lost.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use tracker_tests::{Family, command, daemon, nginx::Nginx, pair::Pair, serial};

use crate::support::{assert_equal_to_ss, counted, settled, wildcard};

const SECONDS: u64 = 3;

#[test]
fn nothing_is_lost_under_load_by_tp_btf_and_tc() -> Result<()> {
    load(&["--socket-events", "tp_btf", "--hook", "tc"])
}

#[test]
fn nothing_is_lost_under_load_by_raw_tp_and_xdp() -> Result<()> {
    load(&["--socket-events", "raw_tp", "--hook", "xdp"])
}

/// wrk makes connections for some seconds over each family; the kernel's own counters say how many.
fn load(arguments: &[&str]) -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let nginx = Nginx::start(&pair.server, 80)?;
    let daemon = daemon::settings(&pair.server)?.arguments(arguments).start()?;
    let mut total = 0;
    for family in Family::BOTH {
        let before = pair.server.counter("Tcp", "PassiveOpens")?;
        let url = format!("http://{}/", pair.link.right.socket(family, nginx.port()));
        let mut wrk = pair.client.command("timeout");
        let limit = Duration::from_secs(SECONDS + 10).as_secs().to_string();
        wrk.args([&limit, "wrk", "-t2", "-c50", &format!("-d{SECONDS}s"), "-H", "Connection: close", &url]);
        println!("{}", command::stdout_of(&mut wrk)?);
        settled(&pair.server, &["listen", "time_wait"])?;

        let opened = pair.server.counter("Tcp", "PassiveOpens")? - before;
        for (namespace, name) in [(&pair.client, "TCPSynRetrans"), (&pair.server, "ListenDrops")] {
            assert_eq!(namespace.counter("TcpExt", name)?, 0, "{name}: each SYN was sent once and taken");
        }
        let listener = counted(&daemon, wildcard(family, nginx.port()))?;
        assert_eq!((listener.syns_received, listener.handshakes_completed), (opened, opened), "{family:?}");
        let transitions = daemon.transitions(family)?;
        let of = |name: &str| transitions.get(name).copied().unwrap_or(0);
        assert_eq!((of("listen->syn_recv"), of("syn_recv->established")), (opened, opened), "{transitions:?}");
        let ended: u64 = transitions.iter().filter(|(name, _)| name.ends_with("->close")).map(|(_, count)| count).sum();
        assert_eq!(ended, opened, "{transitions:?}");
        let left: u64 = daemon.states()?.closes[family.name()].values().sum();
        assert_eq!(left, opened, "{:?}", daemon.states()?.closes);
        total += opened;
    }
    assert_eq!(daemon.states()?.handshakes_completed, total);
    assert_equal_to_ss(&daemon, &pair.server)?;
    let status = daemon.status()?;
    assert_eq!(status.losses.values().sum::<u64>(), 0, "{:?}", status.losses);
    daemon.stop(Signal::SIGTERM)
}
