//! `tracker explain bind` says what `bind()` and `listen()` then do, and who is in the way.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tracker_model::{
    explain::{BindAnswer, TcpState},
    process::Process,
};
use tracker_tests::{
    api::Api,
    bind_cases::{Situation, Words, make, situations},
    daemon::Daemon,
    pair::Pair,
    peer::{OK, Peer, SocketId},
    serial,
};

/// Each situation has a port of its own from here on, below those that the kernel chooses.
const FIRST_PORT: u16 = 2_000;
/// The other user.
const USER: u32 = 1_000;

/// A situation that stands.
struct Standing {
    situation: Situation,
    port: u16,
    /// The socket that may yet listen, and whose it is.
    rival: Option<(SocketId, u32)>,
    /// User that holds the sockets.
    holder: u32,
}

/// Two processes of two users.
struct Pairs {
    root: Peer,
    other: Peer,
}

impl Pairs {
    fn of(&self, user: u32) -> &Peer {
        if user == 0 { &self.root } else { &self.other }
    }
}

#[test]
fn explain_bind_says_what_bind_and_listen_do_and_who_is_in_the_way() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.client)?;
    let (api, started) = (Api::at(daemon.socket()), Instant::now());
    let holders = Pairs {
        root: Peer::start(&pair.client, "holder")?,
        other: Peer::start_as(&pair.client, "other-holder", USER)?,
    };
    let askers =
        Pairs { root: Peer::start(&pair.client, "asker")?, other: Peer::start_as(&pair.client, "other-asker", USER)? };
    // No device can be asked for.
    let situations = situations()?.into_iter().filter(|situation| situation.asked.number("dev").is_none());
    let standing = (FIRST_PORT..)
        .zip(situations)
        .map(|(port, situation)| {
            let title = situation.title;
            stand(&holders, situation, port).with_context(|| title)
        })
        .collect::<Result<Vec<_>>>()?;
    assert!(standing.len() >= 95, "{} situations", standing.len());
    // By its second census, which comes soon, the daemon knows how long a TIME_WAIT lasts.
    thread::sleep(Duration::from_millis(2_500).saturating_sub(started.elapsed()));
    let mut wrong = Vec::new();
    for situation in &standing {
        if let Err(error) = assert_agrees(&api, &holders, &askers, situation) {
            wrong.push(format!("{}: {error:#}", situation.situation.title));
        }
    }
    assert!(wrong.is_empty(), "{} of {} situations:\n{}", wrong.len(), standing.len(), wrong.join("\n"));
    daemon.stop(Signal::SIGTERM)
}

fn stand(holders: &Pairs, situation: Situation, port: u16) -> Result<Standing> {
    let user = situation.sockets.iter().find_map(|socket| socket.number("uid")).unwrap_or(0);
    let port = situation.asked.number("port").map_or(Ok(port), u16::try_from)?;
    let mut standing = Standing { situation, port, rival: None, holder: user };
    for words in &standing.situation.sockets {
        let listener = standing.rival.map(|(socket, _)| socket).filter(|_| words.address.is_loopback());
        let is_apart = words.has("time_wait") || words.has("listen");
        let listener = if is_apart { None } else { listener };
        let (port, socket) = make(holders.of(user), words, standing.port, listener)?;
        standing.port = port;
        standing.rival = socket.map(|socket| (socket, user)).or(standing.rival);
    }
    Ok(standing)
}

/// Asks, binds and listens, and compares.
fn assert_agrees(api: &Api, holders: &Pairs, askers: &Pairs, standing: &Standing) -> Result<()> {
    let Standing { situation, port, rival, holder } = standing;
    let words = &situation.asked;
    let user = if words.has("unprivileged") { USER } else { words.number("uid").unwrap_or(0) };
    let answer = api.explain_bind(words.socket_address(*port), &query(words, user))?;

    let asker = askers.of(user);
    let socket = asker.open(&words.options())?;
    let bound = asker.bind(socket, words.socket_address(*port))?;
    let predicted = answer.error.map_or(OK, |error| error.name());
    ensure!(predicted == bound, "bind(): tracker says {predicted}, the kernel {bound}");
    let mut listened = "-".to_owned();
    if bound == OK && !words.udp {
        let is_late = words.has("rival_listens");
        if is_late {
            let (rival, user) = rival.context("nobody who could listen")?;
            ensure!(holders.of(user).listen(rival)? == OK, "the other listens first");
        }
        listened = asker.listen(socket)?;
        let predicted = if is_late && !answer.rivals.is_empty() { "EADDRINUSE" } else { OK };
        ensure!(predicted == listened, "listen(): tracker says {predicted}, the kernel {listened}");
    }
    asker.close(socket)?;
    // The running kernel does what that of the table did.
    let both = format!("{bound} {listened}");
    ensure!(both == situation.kernel, "the table says {}, the kernel {both}", situation.kernel);
    assert_names(&answer, situation, *port, holders.of(*holder))
}

fn query(words: &Words, user: u32) -> String {
    let protocol = if words.udp { "udp" } else { "tcp" };
    let (reuse_address, reuse_port) = (words.has("ra"), words.has("rp"));
    let options = format!("&protocol={protocol}&reuse_address={reuse_address}&reuse_port={reuse_port}&uid={user}");
    if words.ipv6 { format!("{options}&ipv6_only={}", words.has("v6only")) } else { options }
}

/// Whoever is in the way is of the situation and is named, save minisockets, which nobody holds.
fn assert_names(answer: &BindAnswer, situation: &Situation, port: u16, holder: &Peer) -> Result<()> {
    let in_the_way = if answer.succeeds { &answer.rivals } else { &answer.holders };
    if let [only] = &situation.sockets[..] {
        let (address, state) = (only.address, only.state());
        let is_it = |found: &&tracker_model::explain::Holder| {
            serde_json::to_value(found.state).is_ok_and(|name| name == state)
                && (found.address == address || state == "syn_sent")
        };
        let expected = usize::from(answer.error.is_some_and(|error| error.name() == "EADDRINUSE"));
        ensure!(answer.holders_total == expected, "{} sockets in the way: {:?}", answer.holders_total, answer.holders);
        ensure!(in_the_way.iter().all(|found| is_it(&found)), "it is {state} at {address}: {in_the_way:?}");
    }
    for found in in_the_way {
        ensure!(found.port == port, "port {port}: {found:?}");
        let is_minisocket = found.ends_in_seconds.is_some();
        let waits = found.state == TcpState::TimeWait;
        ensure!(is_minisocket == (waits || only_mini(situation)), "when it ends: {found:?}");
        ensure!(found.ends_in_seconds.is_none_or(|seconds| (30.0..=60.0).contains(&seconds)), "{found:?}");
        let process = Process { pid: holder.pid(), comm: holder.name().to_owned() };
        let expected = if is_minisocket { Vec::new() } else { vec![process] };
        ensure!(found.processes == expected, "held by {expected:?}: {found:?}");
    }
    Ok(())
}

fn only_mini(situation: &Situation) -> bool {
    situation.sockets.iter().any(|socket| socket.has("mini"))
}
