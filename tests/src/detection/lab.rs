//! Where a case takes place: clients with many addresses, a server with nginx, and tracker beside it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    Family,
    api::Api,
    counters::Counters,
    daemon::{self, Daemon},
    nginx::Nginx,
    pair::Pair,
    segment::Route,
};

/// The first port that a run may use; before it stands the one by which nginx was asked whether it serves.
const FIRST_PORT: u16 = 8_001;
/// A port where nothing listens, and the first of those that follow.
const CLOSED_PORT: u16 = 20_001;

/// A client and a server. The client holds all of 198.19.0.0/16 and of `2001:db8:19::/48`, beside its own addresses.
#[derive(Debug)]
pub struct Lab {
    // Dropped first: it lives in the server's namespace.
    nginx: Option<Nginx>,
    /// Counters of the client's namespace.
    pub client: Counters,
    /// Counters of the server's namespace.
    pub server: Counters,
    /// The namespaces.
    pub pair: Pair,
}

impl Lab {
    /// A lab with this setting of SYN cookies, and nginx on `ports` ports from [`Self::port`] 0 on.
    pub fn new(cookies: u8, ports: u16) -> Result<Self> {
        Self::on(Pair::plain()?, cookies, ports)
    }

    /// As [`Self::new`], on a link of the caller's.
    pub fn on(pair: Pair, cookies: u8, ports: u16) -> Result<Self> {
        let device = &pair.link.right.device;
        pair.server.sysctl("net.ipv4.tcp_syncookies", &cookies.to_string())?;
        for scope in ["all", "default", device] {
            pair.server.sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "0")?;
        }
        pair.client.ip("route add local 198.19.0.0/16 dev lo")?;
        pair.client.ip("-6 route add local 2001:db8:19::/48 dev lo")?;
        pair.client.sysctl("net.ipv4.ip_nonlocal_bind", "1")?;
        pair.client.sysctl("net.ipv6.ip_nonlocal_bind", "1")?;
        let backlogs: Vec<_> = (FIRST_PORT - 1..FIRST_PORT + ports).map(|port| (port, 4_096)).collect();
        let nginx = (ports > 0).then(|| Nginx::start_on(&pair.server, &backlogs)).transpose()?;
        let (client, server) = (Counters::of(&pair.client)?, Counters::of(&pair.server)?);
        Ok(Self { nginx, client, server, pair })
    }

    /// A port of nginx that no connection has used yet, by number.
    #[must_use]
    pub fn port(number: u16) -> u16 {
        FIRST_PORT + number
    }

    /// A port where nothing listens, by number.
    #[must_use]
    pub fn closed_port(number: u16) -> u16 {
        CLOSED_PORT + number
    }

    /// The server's address.
    #[must_use]
    pub fn target(&self, family: Family, port: u16) -> SocketAddr {
        self.pair.link.right.socket(family, port)
    }

    /// The way to the server.
    #[must_use]
    pub fn route(&self) -> Route<'_> {
        Route { from: &self.pair.link.left, to: &self.pair.link.right }
    }

    /// Starts tracker on the server.
    pub fn daemon(&self, record: Option<&PathBuf>) -> Result<Daemon<'_>> {
        let settings = daemon::settings(&self.pair.server)?;
        match record {
            Some(file) => settings.arguments(&["--detector.record", file.to_str().context("a path in UTF-8")?]).start(),
            None => settings.start(),
        }
    }

    /// Connections that nginx has accepted so far, the one that asks included.
    pub fn accepted(&self) -> Result<u64> {
        self.nginx.as_ref().context("no nginx")?.accepted(&self.pair.server)
    }

    /// Hands nginx out, so that a case may stop it.
    pub fn take_nginx(&mut self) -> Option<Nginx> {
        self.nginx.take()
    }
}

/// The first addresses of the client's that real connections come from.
#[must_use]
pub fn clients(family: Family, count: u16) -> Vec<IpAddr> {
    let address = |number: u16| match family {
        Family::Ipv4 => {
            let [high, low] = number.to_be_bytes();
            Ipv4Addr::new(198, 19, high, low).into()
        }
        Family::Ipv6 => Ipv6Addr::new(0x2001, 0xdb8, 0x19, number >> 8, 0, 0, 0, number).into(),
    };
    (1..=count).map(address).collect()
}

/// The address of a listener on all addresses, as tracker names it.
#[must_use]
pub fn wildcard(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The API of a daemon.
#[must_use]
pub fn api(daemon: &Daemon<'_>) -> Api {
    Api::at(daemon.socket())
}

/// Lets this process and those that it starts have as many files open as the kernel lets it.
pub fn raise_limits() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raise the limit of open files")
}

/// Memory of a daemon: of its maps in the kernel, and its own resident memory, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Sum of `memlock` over the maps it holds.
    pub maps: u64,
    /// `VmRSS`.
    pub resident: u64,
}

impl Memory {
    /// Of a process, now.
    pub fn of(pid: u32) -> Result<Self> {
        let mut maps = std::collections::BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
            let Ok(text) = fs::read_to_string(entry.path()) else { continue };
            let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
            if let (Some(id), Some(bytes)) = (value("map_id:"), value("memlock:")) {
                maps.insert(id, bytes);
            }
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: u64 = line.split_whitespace().next().context("an empty VmRSS")?.parse()?;
        Ok(Self { maps: maps.values().sum(), resident: kilobytes << 10 })
    }
}
