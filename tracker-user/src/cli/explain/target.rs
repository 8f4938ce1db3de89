//! The address and port that a call is asked about.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};

use anyhow::{Context as _, Result, bail};

use crate::cli::format::printable;

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
pub(in crate::cli) fn of_connect(text: &str) -> Result<Target, String> {
    let target = target(text)?;
    match target {
        Target { host: Host::Any, port } => Err(format!("connect() needs a host, such as localhost:{port}")),
        Target { port: 0, .. } => Err("nothing connects to port 0".to_owned()),
        target => Ok(target),
    }
}

/// Reads what `bind()` is asked about: as for `connect()`, and `:443` and `*:443` for all addresses; port 0 is any.
pub(in crate::cli) fn of_bind(text: &str) -> Result<Target, String> {
    target(text)
}

fn target(text: &str) -> Result<Target, String> {
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
    /// The address, of the family of `beside` if that is given; and, when a name had to be looked up, a line that says so.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> (String, u16) {
        let target = of_bind(text).unwrap();
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
    fn what_is_no_target_is_told_with_what_would_be_one() {
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
            let error = of_bind(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn connect_needs_a_host_and_a_port() {
        assert_eq!(of_connect(":80").unwrap_err(), "connect() needs a host, such as localhost:80");
        assert_eq!(of_connect("192.0.2.1:0").unwrap_err(), "nothing connects to port 0");
        assert!(of_connect("192.0.2.1:80").is_ok());
    }

    #[test]
    fn a_name_is_looked_up_and_the_address_named() {
        let target = of_connect("localhost:80").unwrap();
        let (address, told) = target.resolve(Some([127, 0, 0, 1].into())).unwrap();
        assert_eq!(address, IpAddr::from([127, 0, 0, 1]));
        assert!(told.is_some_and(|told| told.starts_with("localhost is 127.0.0.1")));
        let error = of_connect("nowhere.invalid:80").unwrap().resolve(None).unwrap_err();
        assert_eq!(error.to_string(), "nowhere.invalid cannot be looked up; name its address");
    }
}
