//! Situations in which `bind()` is called, in words, made of real sockets.
//!
//! The words are those of the model's table of what the kernel did: protocol and family, address, state, and options,
//! such as `tcp4 127.0.0.1 time_wait ra`.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};

use crate::peer::{OK, Options, Peer, SocketId};

/// The table: title, sockets that have the port, what is asked, and what the kernel did.
const TABLE: &str = include_str!("../../tracker-detect/src/explain/situations.txt");

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Situation {
    /// What it is about.
    pub title: &'static str,
    /// Sockets that have the port.
    pub sockets: Vec<Words>,
    /// The socket that is to be bound.
    pub asked: Words,
    /// What `bind()` and `listen()` did when the table was made.
    pub kernel: &'static str,
}

/// A socket in words.
#[derive(Clone, Debug)]
pub struct Words {
    /// UDP, or TCP.
    pub udp: bool,
    /// `AF_INET6`.
    pub ipv6: bool,
    /// Address; an IPv4 one on an IPv6 socket is mapped.
    pub address: IpAddr,
    rest: Vec<&'static str>,
}

/// All of the table.
pub fn situations() -> Result<Vec<Situation>> {
    TABLE.lines().filter(|line| !line.starts_with('#')).map(situation).collect()
}

fn situation(line: &'static str) -> Result<Situation> {
    let [title, sockets, asked, kernel] = line.split(" | ").collect::<Vec<_>>()[..] else {
        bail!("no four parts: {line}")
    };
    let sockets = if sockets == "nobody" { Ok(Vec::new()) } else { sockets.split("; ").map(Words::new).collect() };
    Ok(Situation { title, sockets: sockets?, asked: Words::new(asked)?, kernel })
}

impl Words {
    fn new(text: &'static str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let kind = words.next().context("no protocol")?;
        let address: IpAddr = words.next().context("no address")?.parse()?;
        Ok(Self { udp: kind.starts_with("udp"), ipv6: kind.ends_with('6'), address, rest: words.collect() })
    }

    /// Whether a word is among the options.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        self.rest.contains(&word)
    }

    /// The number of an option, such as `uid=1000`.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        self.rest.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    }

    /// The address as the socket takes it, with a port.
    #[must_use]
    pub fn socket_address(&self, port: u16) -> SocketAddr {
        let ip = match self.address {
            IpAddr::V4(ip) if self.ipv6 => ip.to_ipv6_mapped().into(),
            ip => ip,
        };
        SocketAddr::new(ip, port)
    }

    /// How such a socket is made.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            udp: self.udp,
            ipv6: self.ipv6,
            ipv6_only: self.has("v6only"),
            reuse_address: self.has("ra"),
            reuse_port: self.has("rp"),
            device: self.number("dev").map(|_| "lo".to_owned()),
            ..Options::default()
        }
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> &'static str {
        self.rest.first().copied().unwrap_or_default()
    }

    /// The address that a connection to this socket's address goes to; the wildcard listens there.
    fn wildcard(&self, port: u16) -> SocketAddr {
        let ip = self.socket_address(port).ip();
        let is_mapped = ip != ip.to_canonical();
        match ip {
            IpAddr::V6(_) if !is_mapped => SocketAddr::new(IpAddr::from([0_u16; 8]), port),
            _ => self.socket_address(port),
        }
    }
}

/// Makes a socket that has the port, in a process. The answer is the port, which is another where `connect()` is to
/// choose it, and the socket if it is one that may yet listen.
pub fn make(holder: &Peer, words: &Words, port: u16, listener: Option<SocketId>) -> Result<(u16, Option<SocketId>)> {
    let open = || holder.open(&words.options());
    let bound = || -> Result<SocketId> {
        let socket = open()?;
        ok(&holder.bind(socket, words.socket_address(port))?)?;
        Ok(socket)
    };
    if words.has("auto") {
        return Ok((called(holder, words)?, None));
    }
    match (words.state(), words.udp) {
        ("bound", _) => return Ok((port, Some(bound()?))),
        ("listen", _) => {
            let socket = bound()?;
            ok(&holder.listen(socket)?)?;
            return Ok((port, Some(socket)));
        }
        ("established", true) => {
            // connect() gives it its address.
            let socket = open()?;
            ok(&holder.bind(socket, words.wildcard(port))?)?;
            ok(&holder.connect(socket, words.socket_address(9))?)?;
        }
        (state, false) => accepted(holder, words, port, state, listener)?,
        (state, true) => bail!("UDP has no {state}"),
    }
    Ok((port, None))
}

/// A connection that `connect()` gave its port.
fn called(holder: &Peer, words: &Words) -> Result<u16> {
    if words.state() == "syn_sent" {
        // Nobody answers there.
        let socket = holder.open(&Options { nonblocking: true, ..words.options() })?;
        ok(&holder.connect(socket, "198.18.0.1:80".parse()?)?)?;
        return Ok(holder.local(socket)?.port());
    }
    let server = holder.open(&Options { ipv6: words.ipv6, ipv6_only: words.ipv6, ..Options::default() })?;
    ok(&holder.bind(server, words.socket_address(0))?)?;
    ok(&holder.listen(server)?)?;
    let ours = holder.open(&words.options())?;
    ok(&holder.connect(ours, holder.local(server)?)?)?;
    let theirs = holder.accept(server)?;
    holder.close(server)?;
    let port = holder.local(ours)?.port();
    end(holder, words, ours, theirs)?;
    Ok(port)
}

/// A connection that was accepted at the port; its listener is gone, unless it is one of the situation's own.
fn accepted(holder: &Peer, words: &Words, port: u16, state: &str, listener: Option<SocketId>) -> Result<()> {
    let server = if let Some(listener) = listener {
        listener
    } else {
        let server = holder.open(&words.options())?;
        ok(&holder.bind(server, words.wildcard(port))?)?;
        ok(&holder.listen(server)?)?;
        server
    };
    let theirs = holder.open(&Options { ipv6: words.ipv6, ..Options::default() })?;
    ok(&holder.connect(theirs, words.socket_address(port))?)?;
    let ours = holder.accept(server)?;
    if listener.is_none() {
        holder.close(server)?;
    }
    ensure!(state != "syn_sent", "a connection that was accepted is no {state}");
    end(holder, words, ours, theirs)
}

/// Brings our end of a connection into its state.
fn end(holder: &Peer, words: &Words, ours: SocketId, theirs: SocketId) -> Result<()> {
    match words.state() {
        "established" => Ok(()),
        "time_wait" => {
            holder.close(ours)?;
            holder.close(theirs)
        }
        "fin_wait2" if words.has("mini") => holder.close(ours),
        "fin_wait2" => holder.shutdown(ours),
        "close_wait" => holder.close(theirs),
        state => bail!("no connection is brought into {state}"),
    }
}

fn ok(outcome: &str) -> Result<()> {
    ensure!(outcome == OK, "a socket of the situation: {outcome}");
    Ok(())
}
