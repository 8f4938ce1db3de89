//! More listeners, interfaces or descriptors than there is room for: said while it lasts, mended when it is over.

use std::{collections::BTreeSet, ffi::OsStr, io::Write as _, os::unix::ffi::OsStrExt as _, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::{
    net::if_::if_nametoindex,
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::Signal,
    },
};
use tracker_tests::{
    Family, client, command,
    daemon::{self, Daemon, find},
    namespace::Namespace,
    pair::Pair,
    serial,
    server::{ListenOptions, listen},
};
use tracker_user::kernel::clsact;

use crate::support::{counted, eventually, send_syns, wildcard};

/// Interfaces that are counted apart.
const COUNTED_APART: usize = 255;

fn problems(daemon: &Daemon<'_>) -> Result<String> {
    Ok(daemon.status()?.problems.join("\n"))
}

#[test]
fn a_listener_that_came_while_the_table_was_full_is_judged_when_it_is_not() -> Result<()> {
    let _alone = serial::alone();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raise the limit of open files")?;
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    let many =
        (20_000..21_100).map(|port| listen(&pair.server, wildcard(Family::Ipv4, port), ListenOptions::default()));
    let many: Vec<_> = many.collect::<Result<_>>()?;
    let late = [Family::Ipv4, Family::Ipv6].map(|family| wildcard(family, 80));
    let _late: Vec<_> =
        late.iter().map(|address| listen(&pair.server, *address, ListenOptions::default())).collect::<Result<_>>()?;
    for address in late {
        assert_eq!(find(daemon.listeners()?, address).context("it is known")?.verdict, None);
    }

    let port = pair.link.right.socket(Family::Ipv4, 81);
    let closing = listen(&pair.server, wildcard(Family::Ipv4, 81), ListenOptions::default())?;
    let no_listener = || -> Result<u64> { Ok(daemon.listeners()?.no_listener.syns_received) };
    assert_eq!(client::connect(&pair.client, port, 3).streams.len(), 3);
    assert_eq!(no_listener()?, 0, "it listens, without a slot of its own");
    drop(closing);
    send_syns(&pair, Family::Ipv4, port, 5)?;
    eventually("nothing listens there any more", || Ok(no_listener()? == 5))?;

    drop(many);
    eventually("they are judged", || {
        let listeners = || daemon.listeners();
        Ok(late
            .iter()
            .all(|address| listeners().is_ok_and(|all| find(all, *address).is_some_and(|own| own.verdict.is_some()))))
    })?;
    assert!(!problems(&daemon)?.contains("without a slot"), "{}", problems(&daemon)?);
    for (family, address) in Family::BOTH.into_iter().zip(late) {
        let calls = client::connect(&pair.client, pair.link.right.socket(family, 80), 7);
        assert_eq!(calls.streams.len(), 7);
        let seen = counted(&daemon, address)?;
        assert_eq!((seen.syns_received, seen.handshakes_completed), (7, 7), "{address}");
    }
    daemon.stop(Signal::SIGTERM)
}

/// Runs lines of ip(8) in one process.
fn ip(namespace: &Namespace, lines: impl Iterator<Item = String>) -> Result<()> {
    let mut ip = namespace.command("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
    let lines: Vec<_> = lines.collect();
    ip.stdin.take().context("its input")?.write_all(lines.join("\n").as_bytes())?;
    ensure!(ip.wait()?.success(), "ip -batch");
    Ok(())
}

/// Makes pairs of interfaces, `d0` and `d1` to begin with.
fn make_pairs(namespace: &Namespace, pairs: usize) -> Result<()> {
    let pair = |index| {
        let (one, other) = (2 * index, 2 * index + 1);
        format!("link add d{one} up type veth peer name d{other}\nlink set d{other} up")
    };
    ip(namespace, (0..pairs).map(pair))
}

#[test]
fn interfaces_beyond_those_that_are_counted_apart_have_no_figures_of_their_own() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    make_pairs(&pair.server, 130)?;
    let daemon = daemon::settings(&pair.server)?.arguments(&["--interface", "d*"]).start()?;
    let interfaces = || -> Result<BTreeSet<String>> {
        Ok(daemon.status()?.interfaces.into_iter().map(|interface| interface.name).collect())
    };
    let rows = interfaces()?;
    assert_eq!((rows.len(), rows.contains("other")), (COUNTED_APART + 1, true));
    let scrape = daemon.metrics()?;
    let labels: BTreeSet<_> = scrape
        .select("tracker_interface_packets_total", &[])
        .map(|sample| sample.labels["interface"].clone())
        .collect();
    assert_eq!(labels, rows);

    ip(&pair.server, (0..5).map(|index| format!("link del d{}", 2 * index)))?;
    eventually("the rest has slots", || {
        let rows = interfaces()?;
        Ok(rows.iter().filter(|name| *name != "other").count() == 250)
    })?;
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn descriptors_are_left_for_those_who_ask_when_there_are_many_interfaces() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    make_pairs(&pair.server, 75)?;
    let settings = daemon::settings(&pair.server)?.arguments(&["--interface", "d*"]);
    let daemon = settings.through(&["prlimit", "--nofile=160:160"]).start()?;
    let status = daemon.status()?;
    let problem = status.problems.iter().find(|problem| problem.contains("LimitNOFILE")).context("it is said")?;
    assert!(problem.contains("more are not watched") && problem.contains("160"), "{problem}");
    let reasons = status.unwatched.iter().filter(|unwatched| unwatched.reason.contains("LimitNOFILE")).count();
    assert!(!status.interfaces.is_empty());
    assert_eq!(status.interfaces.len() + reasons, 150, "each is watched or has its reason");
    assert!(daemon.metrics()?.select("tracker_interface_info", &[]).next().is_some());
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn an_interface_whose_name_is_not_utf8_is_named_as_not_watched() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let name = OsStr::from_bytes(b"\xff\xfebad");
    let mut ip = pair.server.command("ip");
    command::stdout_of(ip.args(["link", "add"]).arg(name).args(["type", "veth", "peer", "name", "plain"]))?;
    let daemon = Daemon::start(&pair.server)?;
    let unwatched = daemon.status()?.unwatched;
    let own = unwatched.iter().find(|unwatched| unwatched.name == name.to_string_lossy()).context("it is named")?;
    assert!(own.reason.contains("UTF-8"), "{}", own.reason);
    assert!(problems(&daemon)?.contains("UTF-8"));
    assert!(!daemon.log().contains("failed to decode"), "{}", daemon.log());
    // What is left is read as text at the end.
    command::stdout_of(pair.server.command("ip").args(["link", "del", "plain"]))?;
    daemon.stop(Signal::SIGTERM)
}

/// Before Linux 6.6 the programs need a clsact qdisc, which goes with them unless another's filter is on it.
#[test]
fn an_empty_clsact_qdisc_is_removed() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let name = pair.link.right.device.as_str();
    let index = pair.server.enter(|| if_nametoindex(name))?;
    let tc = |words: &str| command::stdout_of(pair.server.command("tc").args(words.split_whitespace()));
    let remove = || -> Result<()> {
        pair.server.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(clsact::remove(index));
            Ok(())
        })
    };
    tc(&format!("qdisc add dev {name} clsact"))?;
    for side in ["ingress", "egress"] {
        tc(&format!("filter add dev {name} {side} u32 match u32 0 0"))?;
        remove()?;
        assert!(tc(&format!("qdisc show dev {name}"))?.contains("clsact"), "another's filter on {side}");
        tc(&format!("filter del dev {name} {side}"))?;
    }
    remove()?;
    assert!(!tc(&format!("qdisc show dev {name}"))?.contains("clsact"));
    Ok(())
}
