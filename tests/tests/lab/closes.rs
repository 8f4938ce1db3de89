//! Who closed first, and how connections end.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{Shutdown, TcpStream},
    time::Duration,
};

use anyhow::Result;
use nix::sys::signal::Signal;
use socket2::SockRef;
use tracker_tests::{
    Family,
    daemon::{self, Daemon},
    pair::Pair,
    serial,
    server::{ListenOptions, connected, listen, reset_on_close, wait_for_close},
};

use crate::support::{counts, eventually, wildcard};

const PORT: u16 = 80;

/// A way in which a connection between `there` and `here`, where the daemon runs, ends.
type End = fn(there: TcpStream, here: TcpStream);

#[test]
fn the_end_of_a_connection_is_counted_by_who_brought_it_about_by_tp_btf() -> Result<()> {
    ends("tp_btf")
}

#[test]
fn the_end_of_a_connection_is_counted_by_who_brought_it_about_by_raw_tp() -> Result<()> {
    ends("raw_tp")
}

fn ends(events: &str) -> Result<()> {
    let _alone = serial::alone();
    let cases: [(&str, u64, End); 5] = [
        ("local", 5, closed_here),
        ("local", 3, half_closed_here_first),
        ("peer", 4, closed_there),
        ("reset_by_peer", 3, reset_there),
        ("reset_locally", 2, reset_here),
    ];
    let pair = Pair::plain()?;
    let daemon = daemon::settings(&pair.server)?.arguments(&["--socket-events", events]).start()?;
    for family in Family::BOTH {
        let listener = listen(&pair.server, wildcard(family, PORT), ListenOptions::default())?;
        let target = pair.link.right.socket(family, PORT);
        let mut expected: BTreeMap<String, u64> = nothing();
        for (kind, count, end) in cases {
            for _ in 0..count {
                let (there, here) = connected(&pair.client, target, &listener)?;
                end(there, here);
            }
            *expected.get_mut(kind).expect("one of the kinds") += count;
            assert_closes(&daemon, family, &expected)?;
        }
        // Unread data makes close() send a reset.
        for _ in 0..6 {
            let (mut there, here) = connected(&pair.client, target, &listener)?;
            there.write_all(b"never read")?;
            eventually("the data arrives", || Ok(here.peek(&mut [0])? == 1))?;
            drop(here);
            wait_for_close(&mut there);
        }
        *expected.get_mut("reset_locally").expect("one of the kinds") += 6;
        assert_closes(&daemon, family, &expected)?;
    }
    daemon.stop(Signal::SIGTERM)
}

fn nothing() -> BTreeMap<String, u64> {
    counts(["local", "peer", "reset_by_peer", "reset_locally", "timed_out", "error"].map(|kind| (kind, 0)))
}

fn assert_closes(daemon: &Daemon<'_>, family: Family, expected: &BTreeMap<String, u64>) -> Result<()> {
    let total: u64 = expected.values().sum();
    let closes = || -> Result<_> { Ok(daemon.states()?.closes.remove(family.name()).expect("both families")) };
    eventually("all are closed", || Ok(closes()?.values().sum::<u64>() >= total))?;
    assert_eq!(&closes()?, expected, "{family:?}");
    Ok(())
}

fn closed_here(mut there: TcpStream, here: TcpStream) {
    drop(here);
    wait_for_close(&mut there);
}

fn half_closed_here_first(mut there: TcpStream, mut here: TcpStream) {
    here.shutdown(Shutdown::Write).expect("a connection that is open both ways");
    wait_for_close(&mut there);
    drop(there);
    wait_for_close(&mut here);
}

fn closed_there(there: TcpStream, mut here: TcpStream) {
    drop(there);
    wait_for_close(&mut here);
}

fn reset_there(there: TcpStream, mut here: TcpStream) {
    reset_on_close(&there);
    drop(there);
    wait_for_close(&mut here);
}

fn reset_here(mut there: TcpStream, here: TcpStream) {
    reset_on_close(&here);
    drop(here);
    wait_for_close(&mut there);
}

#[test]
fn a_peer_that_no_longer_acknowledges_is_timed_out() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::delayed(Duration::ZERO)?;
    let daemon = Daemon::start(&pair.server)?;
    for family in Family::BOTH {
        let wire = pair.link.wire().expect("a wire joins them");
        wire.cut(false);
        let listener = listen(&pair.server, wildcard(family, PORT), ListenOptions::default())?;
        let (_there, mut here) = connected(&pair.client, pair.link.right.socket(family, PORT), &listener)?;
        SockRef::from(&here).set_tcp_user_timeout(Some(Duration::from_millis(300)))?;
        wire.cut(true);
        here.write_all(b"into the void")?;
        wait_for_close(&mut here);
        let mut expected = nothing();
        expected.extend(counts([("timed_out", 1)]));
        assert_closes(&daemon, family, &expected)?;
    }
    daemon.stop(Signal::SIGTERM)
}
