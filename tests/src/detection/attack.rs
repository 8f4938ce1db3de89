//! The attacks, and one run of one.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tracker_model::api::{AlertKind, AlertState, Class};
use tracker_model::listener::Listeners;

use super::{
    lab::{self, Lab},
    watch::{Reading, Watch},
};
use crate::{
    Family,
    daemon::Daemon,
    flood::{self, Flood, Kind, Pace, Sent, Sources},
    load_clients,
};

/// Connections a second of real clients, and their addresses.
pub const CLIENTS_RATE: f64 = 100.0;
pub const CLIENTS: u16 = 8;
/// How often the daemon is asked.
const LOOK: Duration = Duration::from_millis(50);
/// How long the clients are there before.
const LEAD: Duration = Duration::from_secs(2);
/// How long an end is awaited; it is late long before.
const END: Duration = Duration::from_secs(20);
/// The rate from which a flood that rises is one.
const RISEN: f64 = 100.0;

/// What an attack must be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// A SYN flood of this class.
    Flood(Class),
    /// No flood, but counted under this outcome.
    Visible(&'static str),
}

/// An attack.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// Its name.
    pub name: &'static str,
    /// What it is, for the table.
    pub what: &'static str,
    /// Over which families it exists.
    pub families: &'static [Family],
    /// What it must be called.
    pub expect: Expect,
    kind: Kind,
    sources: fn(Family) -> Sources,
    pace: Pace,
    seconds: u64,
    /// How many ports it hits.
    pub ports: u16,
    /// Whether nginx serves there.
    pub served: bool,
    /// Whether it needs the machine for itself.
    pub heavy: bool,
}

const BOTH: &[Family] = &Family::BOTH;
const STEADY: Attack = Attack {
    name: "",
    what: "",
    families: BOTH,
    expect: Expect::Flood(Class::Spoofed),
    kind: Kind::Syn,
    sources: Sources::Everywhere,
    pace: Pace::Steady(1_000.0),
    seconds: 5,
    ports: 1,
    served: true,
    heavy: false,
};

/// All of them.
pub const ATTACKS: [Attack; 13] = [
    Attack { name: "spoofed_500", what: "spoofed, 500/s", pace: Pace::Steady(500.0), ..STEADY },
    Attack { name: "spoofed_5000", what: "spoofed, 5,000/s", pace: Pace::Steady(5_000.0), ..STEADY },
    Attack {
        name: "spoofed_fastest",
        what: "spoofed, as fast as the machine sends",
        pace: Pace::Fastest,
        heavy: true,
        ..STEADY
    },
    Attack {
        name: "prefix_16",
        what: "spoofed in a /16, 1,000/s",
        families: &[Family::Ipv4],
        expect: Expect::Flood(Class::Prefix),
        sources: |_| Sources::Prefix(IpAddr::from([198, 18, 0, 0]), 16),
        ..STEADY
    },
    Attack {
        name: "prefix_64",
        what: "spoofed in a /64, 1,000/s",
        families: &[Family::Ipv6],
        expect: Expect::Flood(Class::Prefix),
        sources: |_| Sources::Prefix(IpAddr::from([0x2001, 0xdb8, 0x64, 0x64, 0, 0, 0, 0]), 64),
        ..STEADY
    },
    Attack {
        name: "prefix_24",
        what: "spoofed in a /24, 1,000/s",
        families: &[Family::Ipv4],
        expect: Expect::Flood(Class::Prefix),
        sources: |_| Sources::Prefix(IpAddr::from([203, 0, 113, 0]), 24),
        ..STEADY
    },
    Attack {
        name: "single_source",
        what: "one source, 1,000/s",
        expect: Expect::Flood(Class::SingleSource),
        sources: one_source,
        ..STEADY
    },
    Attack {
        name: "pulse",
        what: "3 s every 20 s, 2,000/s, three times",
        pace: Pace::Pulse { rate: 2_000.0, on: Duration::from_secs(3), period: Duration::from_secs(20) },
        seconds: 43,
        ..STEADY
    },
    Attack {
        name: "rising",
        what: "from 20/s, 5 % more each second; timed from 100/s on",
        pace: Pace::Rising { start: 20.0, growth: 1.05 },
        seconds: 43,
        ..STEADY
    },
    Attack { name: "two_listeners", what: "two listeners at once, 1,000/s each", ports: 2, ..STEADY },
    Attack { name: "no_listener", what: "a port where nothing listens, 1,000/s", served: false, ..STEADY },
    Attack {
        name: "ack_flood",
        what: "ACKs, 5,000/s",
        expect: Expect::Visible("tcp_ack"),
        kind: Kind::Ack,
        pace: Pace::Steady(5_000.0),
        ..STEADY
    },
    Attack {
        name: "rst_flood",
        what: "RSTs, 5,000/s",
        expect: Expect::Visible("tcp_rst"),
        kind: Kind::Rst,
        pace: Pace::Steady(5_000.0),
        ..STEADY
    },
];

fn one_source(family: Family) -> Sources {
    Sources::One(match family {
        Family::Ipv4 => IpAddr::from([198, 18, 7, 7]),
        Family::Ipv6 => IpAddr::from([0x2001, 0xdb8, 7, 0, 0, 0, 0, 7]),
    })
}

impl Attack {
    /// The attack of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        ATTACKS.into_iter().find(|attack| attack.name == name)
    }

    /// The prefix that it must name first.
    #[must_use]
    pub fn prefix(&self, family: Family) -> Option<String> {
        match (self.sources)(family) {
            Sources::Prefix(network, bits) => Some(format!("{network}/{bits}")),
            _ => None,
        }
    }

    /// When a flood has become one, from its first frame on.
    #[must_use]
    pub fn onset(&self) -> Duration {
        self.pace.passes(RISEN)
    }

    /// How it is sent.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// How many addresses beside it send SYNs to the same ports.
    #[must_use]
    pub fn clients(&self) -> u16 {
        if self.served { CLIENTS } else { 0 }
    }
}

/// One run.
#[derive(Debug)]
pub struct Run<'a> {
    /// Where.
    pub lab: &'a Lab,
    /// Under whose eyes.
    pub daemon: &'a Daemon<'a>,
    /// What.
    pub attack: Attack,
    /// Over which family.
    pub family: Family,
    /// Of the server.
    pub cookies: u8,
    /// Number of the first port that it may use; it uses [`Attack::ports`].
    pub port: u16,
}

impl Run<'_> {
    /// Does it.
    pub fn observe(&self) -> Result<Truth<'_>> {
        let mut watch = Watch::new(lab::api(self.daemon), &self.lab.client)?;
        let before = self.counted()?;
        let visible_before = self.outcomes()?;
        let clients = self.clients()?;
        watch.until(LOOK, LEAD, |_| false)?;

        let floods = self.floods()?;
        watch.until(LOOK, Duration::from_secs(self.attack.seconds + 5), |_| {
            floods.iter().all(flood::Running::is_over)
        })?;
        let firsts: Vec<Instant> = floods.iter().filter_map(flood::Running::first).collect();
        let sent = floods.into_iter().map(flood::Running::wait).collect::<Result<Vec<_>>>()?;
        let ports = self.ports();
        match self.attack.expect {
            Expect::Flood(_) => watch.until(LOOK, END, |reading| ports.iter().all(|port| is_over(reading, *port)))?,
            Expect::Visible(_) => watch.until(LOOK, Duration::from_secs(2), |_| false)?,
        };
        let clients = clients.stop()?;
        self.settle()?;
        let after = self.counted()?;
        let listeners = lab::api(self.daemon).fresh_listeners()?;
        let visible = (visible_before, self.outcomes()?);
        Ok(Truth { watch, sent, firsts, clients, before, after, listeners, visible })
    }

    /// The ports that it hits.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        let number = if self.attack.served { Lab::port } else { Lab::closed_port };
        (self.port..self.port + self.attack.ports).map(number).collect()
    }

    /// The ports that real clients use: the same, or others where nothing listens there.
    #[must_use]
    pub fn served_ports(&self) -> Vec<u16> {
        (self.port..self.port + self.attack.ports).map(Lab::port).collect()
    }

    fn clients(&self) -> Result<load_clients::Running> {
        let targets = self.served_ports().into_iter().map(|port| self.lab.target(self.family, port)).collect();
        // Nine addresses to two ports: each address comes to each port.
        let sources = lab::clients(self.family, CLIENTS);
        let sources = if self.attack.ports == 2 { [&sources[..], &sources[..1]].concat() } else { sources };
        load_clients::Plan::requests(targets, sources, CLIENTS_RATE).start(&self.lab.pair.client)
    }

    fn floods(&self) -> Result<Vec<flood::Running>> {
        let Attack { kind, sources, pace, seconds, .. } = self.attack;
        let start = |port| {
            let duration = Duration::from_secs(seconds);
            let target = self.lab.target(self.family, port);
            let flood = Flood { kind, ..Flood::syns(target, sources(self.family), pace, duration) };
            flood.start(&self.lab.pair.client, self.lab.route())
        };
        self.ports().into_iter().map(start).collect()
    }

    /// Waits until connections that were under way are complete, or given up.
    fn settle(&self) -> Result<()> {
        let opens = || Ok::<_, anyhow::Error>((self.lab.client.syns_sent()?, self.lab.server.tcp("PassiveOpens")?));
        let mut before = opens()?;
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(100));
            let now = opens()?;
            if now == before {
                break;
            }
            before = now;
        }
        Ok(())
    }

    fn counted(&self) -> Result<Counted> {
        Ok(Counted {
            syns: self.lab.client.syns_sent()?,
            segments: self.lab.client.tcp("OutSegs")?,
            accepted: self.lab.accepted()?,
            opened: self.lab.server.tcp("PassiveOpens")?,
            unseen: self.unseen()?,
            dropped: self.lab.server.dropped(&self.lab.pair.link.right.device)?,
        })
    }

    fn unseen(&self) -> Result<u64> {
        let losses = lab::api(self.daemon).fresh_status()?.losses;
        let of = |name: &str| losses.get(name).copied().with_context(|| format!("tracker says nothing of {name}"));
        // Those that the kernel skipped are among the unseen ones, as far as it tells them by a counter.
        Ok(of("event_unseen")?.max(of("event_skipped")?))
    }

    /// Packets of the server's interface so far: of the outcome that must be visible, and of TCP in all.
    fn outcomes(&self) -> Result<(u64, u64)> {
        let Expect::Visible(name) = self.attack.expect else { return Ok((0, 0)) };
        let status = lab::api(self.daemon).fresh_status()?;
        let interface = status.interfaces.first().context("no interface is watched")?;
        let of = |name: &str| interface.outcomes.get(name).map_or(0, |families| families.values().sum());
        let tcp = interface.outcomes.keys().filter(|name| name.starts_with("tcp_")).map(|name| of(name)).sum();
        Ok((of(name), tcp))
    }
}

/// Everything that a run can be judged by.
#[derive(Debug)]
pub struct Truth<'a> {
    /// What the daemon said.
    pub watch: Watch<'a>,
    /// What was sent, by port.
    pub sent: Vec<Sent>,
    /// When its first frame was.
    pub firsts: Vec<Instant>,
    /// What the real clients saw.
    pub clients: load_clients::Seen,
    /// The kernel's counts before.
    pub before: Counted,
    /// And after.
    pub after: Counted,
    /// The daemon's counts after.
    pub listeners: Listeners,
    /// Packets of the visible outcome and of TCP, before and after.
    pub visible: ((u64, u64), (u64, u64)),
}

/// What the kernel counted until a moment.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// SYNs of real clients.
    pub syns: u64,
    /// Segments of real clients, and resets by which they answer.
    pub segments: u64,
    /// Connections that nginx accepted, and one for each time that this was asked.
    pub accepted: u64,
    /// Connections that the kernel made for the server (`PassiveOpens`). Two segments of one handshake that are taken
    /// on two CPUs at once count twice there.
    pub opened: u64,
    /// Socket events that the daemon says it has missed: what it counts of them are lower bounds.
    pub unseen: u64,
    /// Frames lost before the server saw them.
    pub dropped: u64,
}

fn is_over(reading: &Reading, port: u16) -> bool {
    let floods =
        || reading.alerts.iter().filter(|alert| alert.kind == AlertKind::SynFlood && alert.subject.port == Some(port));
    floods().next().is_some() && floods().all(|alert| alert.state == AlertState::Resolved)
}
