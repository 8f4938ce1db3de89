//! The values that arguments of commands can have. Each error says what would be right.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};

use anyhow::{Context as _, Result, bail};
use jiff::SignedDuration;
use nix::unistd::User;
use tracker_model::explain::ListenQuery;

use super::format::printable;

/// Bytes of a process name that the kernel keeps (`TASK_COMM_LEN` less the end).
const COMM: usize = 15;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: Host,
    pub(super) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// `*` or nothing: all addresses, of IPv6 and of IPv4.
    Any,
    Address(IpAddr),
    Name(String),
}

/// Reads what `connect()` is asked about: `192.0.2.1:443`, `[2001:db8::1]:443`, `localhost:443`.
pub(super) fn connect_target(text: &str) -> Result<Target, String> {
    match bind_target(text)? {
        Target { host: Host::Any, port } => Err(format!("connect() needs a host, such as localhost:{port}")),
        Target { port: 0, .. } => Err("nothing connects to port 0".to_owned()),
        target => Ok(target),
    }
}

/// Reads where clients connect to: what `bind_target` takes, but no port 0.
pub(super) fn listen_target(text: &str) -> Result<Target, String> {
    match bind_target(text)? {
        Target { port: 0, .. } => Err("nobody connects to port 0".to_owned()),
        target => Ok(target),
    }
}

/// Reads how long a port is watched, in whole seconds: `10s`, `1m`.
pub(super) fn watch_seconds(text: &str) -> Result<u16, String> {
    let time: Option<SignedDuration> = text.parse().ok();
    let seconds = time.filter(|time| time.subsec_nanos() == 0).and_then(|time| u16::try_from(time.as_secs()).ok());
    seconds.filter(|seconds| ListenQuery::SECONDS.contains(seconds)).ok_or_else(|| {
        let (least, most) = (ListenQuery::SECONDS.start(), ListenQuery::SECONDS.end());
        format!("must be a time of {least} to {most} whole seconds, such as 10s")
    })
}

/// Reads what `bind()` is asked about: what `connect()` takes, and `:443` and `*:443` for all addresses; port 0 is any.
pub(super) fn bind_target(text: &str) -> Result<Target, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Err(format!("has no port; write {}", SocketAddr::new(address, 80)));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("must be an address and a port, such as 192.0.2.1:80, [::1]:80 or localhost:80".to_owned());
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.is_empty() {
        return Err(format!("has no number behind the last colon, such as {host}:80"));
    }
    let port = port.parse().map_err(|_| "has a port beyond 65535, the highest".to_owned())?;
    Ok(Target { host: self::host(host)?, port })
}

fn host(text: &str) -> Result<Host, String> {
    if text.contains('%') {
        return Err("has a zone (%); leave it out, and name the address of this side with --source".to_owned());
    }
    if matches!(text, "" | "*") {
        return Ok(Host::Any);
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let address = inner.parse::<Ipv6Addr>().map_err(|_| "has no IPv6 address in the brackets".to_owned())?;
        return Ok(Host::Address(IpAddr::V6(address)));
    }
    if text.contains([':', '[', ']']) {
        return Err("needs brackets around the IPv6 address, such as [2001:db8::1]:80".to_owned());
    }
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(Host::Address(address)),
        Err(_) if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            Err("has no IPv4 address before the colon, such as 192.0.2.1:80".to_owned())
        }
        Err(_) => Ok(Host::Name(text.to_owned())),
    }
}

impl Target {
    /// The address, of the family of `beside` if that is given. When a name was looked up, a line says so.
    pub(super) fn resolve(&self, beside: Option<IpAddr>) -> Result<(IpAddr, Option<String>)> {
        match &self.host {
            Host::Any => Ok((Ipv6Addr::UNSPECIFIED.into(), None)),
            Host::Address(address) => Ok((*address, None)),
            Host::Name(name) => {
                let shown = printable(name);
                let found = (name.as_str(), self.port).to_socket_addrs();
                let all: Vec<_> = found
                    .with_context(|| format!("{shown} cannot be looked up; name its address"))?
                    .map(|address| address.ip())
                    .collect();
                let fits = |address: &&IpAddr| beside.is_none_or(|beside| beside.is_ipv4() == address.is_ipv4());
                let Some(first) = all.iter().find(fits) else {
                    bail!("{shown} has no address of the family of --source; leave --source out")
                };
                let others =
                    if all.len() > 1 { format!(", the first of {} addresses", all.len()) } else { String::new() };
                Ok((*first, Some(format!("{shown} is {first}{others}."))))
            }
        }
    }
}

/// A destination, whatever its port unless one is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    pub(super) address: IpAddr,
    pub(super) port: Option<u16>,
}

impl Destination {
    pub(super) fn matches(self, address: IpAddr, port: u16) -> bool {
        self.address == address && self.port.is_none_or(|it| it == port)
    }
}

/// Reads `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1` or `[2001:db8::1]:443`.
pub(super) fn destination(text: &str) -> Result<Destination, String> {
    let without_brackets = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let whole: Result<IpAddr, _> = without_brackets.unwrap_or(text).parse();
    let (address, port) = match (whole, text.parse::<SocketAddr>()) {
        (Ok(address), _) => (address, None),
        (_, Ok(address)) => (address.ip(), Some(address.port())),
        _ => {
            let forms = "192.0.2.1, 192.0.2.1:443, 2001:db8::1 or [2001:db8::1]:443";
            return Err(format!("must be an IP address, alone or with a port, such as {forms}"));
        }
    };
    if port == Some(0) {
        return Err(format!("nothing connects to port 0; for all ports of the address: --destination {address}"));
    }
    Ok(Destination { address: address.to_canonical(), port })
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(pub(super) String);

/// Reads a name or a process id.
pub(super) fn process(text: &str) -> Result<Holder, String> {
    if text.is_empty() {
        return Err("must be the name of a process or its id, such as nginx or 815".to_owned());
    }
    Ok(Holder(text.to_owned()))
}

impl Holder {
    pub(super) fn matches(&self, pid: u32, comm: &str) -> bool {
        let Self(text) = self;
        let kept = text.as_bytes().get(..COMM).unwrap_or(text.as_bytes());
        comm.as_bytes() == kept || text.parse() == Ok(pid)
    }
}

/// Reads a user: its number or its name.
pub(super) fn user(text: &str) -> Result<u32, String> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    match User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        _ => Err("must be a user of this host, by name or by number, such as 1000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> (String, u16) {
        let target = bind_target(text).unwrap();
        (target.resolve(None).unwrap().0.to_string(), target.port)
    }

    #[test]
    fn an_address_has_a_port_and_an_ipv6_address_brackets() {
        assert_eq!(address("192.0.2.1:443"), ("192.0.2.1".to_owned(), 443));
        assert_eq!(address("[2001:db8::1]:443"), ("2001:db8::1".to_owned(), 443));
        assert_eq!([address(":80"), address("*:80"), address("[::]:80")], [(); 3].map(|()| ("::".to_owned(), 80)));
        assert_eq!(address("0.0.0.0:0"), ("0.0.0.0".to_owned(), 0));
    }

    #[test]
    fn a_wrong_target_is_refused_with_a_right_one() {
        for (text, expected) in [
            ("", "must be an address and a port, such as 192.0.2.1:80, [::1]:80 or localhost:80"),
            ("80", "must be an address and a port"),
            ("localhost", "must be an address and a port"),
            ("192.0.2.1", "has no port; write 192.0.2.1:80"),
            ("::1", "has no port; write [::1]:80"),
            ("[::1]", "has no number behind the last colon"),
            ("localhost:http", "has no number behind the last colon, such as localhost:80"),
            ("localhost:+80", "has no number behind the last colon"),
            ("localhost:", "has no number behind the last colon"),
            ("192.0.2.1:65536", "has a port beyond 65535"),
            ("192.0.2:80", "has no IPv4 address before the colon"),
            ("[192.0.2.1]:80", "has no IPv6 address in the brackets"),
            ("2001:db8::1:80x:80", "needs brackets around the IPv6 address"),
            ("[fe80::1%eth0]:80", "has a zone (%); leave it out"),
        ] {
            let error = bind_target(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn connect_needs_a_host_and_a_port() {
        assert_eq!(connect_target(":80").unwrap_err(), "connect() needs a host, such as localhost:80");
        assert_eq!(connect_target("192.0.2.1:0").unwrap_err(), "nothing connects to port 0");
        assert!(connect_target("192.0.2.1:80").is_ok());
    }

    #[test]
    fn a_port_is_watched_for_whole_seconds_up_to_a_minute() {
        let times = ["1s", "10s", "1m"].map(|text| watch_seconds(text).unwrap());
        assert_eq!(times, [1, 10, 60]);
        for text in ["", "0s", "500ms", "1.5s", "61s", "-3s", "10", "long"] {
            let error = watch_seconds(text).unwrap_err();
            assert_eq!(error, "must be a time of 1 to 60 whole seconds, such as 10s", "{text}");
        }
        assert_eq!(listen_target(":0").unwrap_err(), "nobody connects to port 0");
        assert!(listen_target("*:80").is_ok());
    }

    #[test]
    fn a_name_is_looked_up_and_the_address_named() {
        let target = connect_target("localhost:80").unwrap();
        let (address, shown) = target.resolve(Some([127, 0, 0, 1].into())).unwrap();
        assert_eq!(address, IpAddr::from([127, 0, 0, 1]));
        assert!(shown.is_some_and(|shown| shown.starts_with("localhost is 127.0.0.1")));
        let error = connect_target("nowhere.invalid:80").unwrap().resolve(None).unwrap_err();
        assert_eq!(error.to_string(), "nowhere.invalid cannot be looked up; name its address");
    }

    #[test]
    fn a_wrong_destination_is_refused_with_what_would_be_one() {
        for text in ["", "localhost", "192.0.2.1:", "192.0.2.1:65536", "192.0.2:443", ":443", "[192.0.2.1", "::1]:443"]
        {
            let error = destination(text).unwrap_err();
            assert!(
                error.starts_with("must be an IP address, alone or with a port, such as 192.0.2.1"),
                "{text}: {error}"
            );
        }
        assert!(destination("[::1]:0").unwrap_err().ends_with("for all ports of the address: --destination ::1"));
    }

    #[test]
    fn a_process_matches_by_the_part_of_its_name_that_the_kernel_keeps() {
        assert!(process("").is_err());
        assert!(process("a-name-that-is-longer").unwrap().matches(1, "a-name-that-is-"));
        assert!(!process("a-name").unwrap().matches(1, "a-name-that-is-"));
    }
}
