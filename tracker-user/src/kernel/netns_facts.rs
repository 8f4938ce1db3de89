//! What the network namespace of the calling thread is set to, and what it has counted, where it bears on who can
//! connect: files of /proc, and the addresses of interfaces.

use std::{collections::HashMap, fs, net::IpAddr, str::FromStr};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};
use tracker_detect::explain::listen::ListenSettings;

/// Counters of IP, of IPv4 or of IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpCounters {
    /// Packets that were sent on to another host or namespace.
    pub forwarded: u64,
    /// "Unreachable" that were sent by ICMP.
    pub unreachables: u64,
}

/// What is set. `conntrack_drops` are packets that the firewall dropped because its table was full.
pub fn settings(conntrack_drops: u64) -> ListenSettings {
    let conntrack = number("net/netfilter/nf_conntrack_count").zip(number("net/netfilter/nf_conntrack_max"));
    ListenSettings {
        syncookies: number("net/ipv4/tcp_syncookies"),
        max_syn_backlog: number("net/ipv4/tcp_max_syn_backlog"),
        somaxconn: number("net/core/somaxconn"),
        abort_on_overflow: number("net/ipv4/tcp_abort_on_overflow") == Some(1),
        conntrack,
        conntrack_drops,
    }
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

/// `rp_filter` of an interface as it is in force: the larger of its own and that of `all`.
pub fn rp_filter(interface: &str) -> Option<u8> {
    let of = |name: &str| number::<u8>(&format!("net/ipv4/conf/{name}/rp_filter"));
    Some(of("all")?.max(of(interface)?))
}

/// The interface that has an address, and whether it is up.
pub fn interface_of(address: IpAddr) -> Option<(String, bool)> {
    let address = address.to_canonical();
    let mut all = getifaddrs().ok()?;
    let found = all.find(|interface| {
        let Some(of) = &interface.address else { return false };
        let ipv4 = of.as_sockaddr_in().map(|of| IpAddr::V4(of.ip()));
        ipv4.or_else(|| of.as_sockaddr_in6().map(|of| IpAddr::V6(of.ip()))) == Some(address)
    })?;
    Some((found.interface_name, found.flags.contains(InterfaceFlags::IFF_UP)))
}

/// Counters of IPv4 and of IPv6; 0 where there are none.
pub fn ip_counters() -> [IpCounters; 2] {
    let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    let (ipv4, ipv6) = (tables(&read("snmp")), words(&read("snmp6")));
    let of = |all: &HashMap<String, u64>, forwarded: &str, unreachables: &str| IpCounters {
        forwarded: all.get(forwarded).copied().unwrap_or_default(),
        unreachables: all.get(unreachables).copied().unwrap_or_default(),
    };
    [of(&ipv4, "Ip:ForwDatagrams", "Icmp:OutDestUnreachs"), of(&ipv6, "Ip6OutForwDatagrams", "Icmp6OutDestUnreachs")]
}

/// A line of names is followed by one of values, both of which begin with the same word.
fn tables(text: &str) -> HashMap<String, u64> {
    let (mut lines, mut values) = (text.lines(), HashMap::new());
    while let (Some(names), Some(counts)) = (lines.next(), lines.next()) {
        let group = names.split_whitespace().next().unwrap_or_default();
        for (name, count) in names.split_whitespace().zip(counts.split_whitespace()).skip(1) {
            values.insert(format!("{group}{name}"), count.parse().unwrap_or_default());
        }
    }
    values
}

/// A name and a value in each line.
fn words(text: &str) -> HashMap<String, u64> {
    let pair = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// Packets that the firewall dropped because its table of connections was full, since it is there.
pub fn conntrack_drops() -> u64 {
    sum_of_column(&fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack").unwrap_or_default(), "drop")
}

/// A table of hexadecimal numbers with a head, a line for each CPU.
fn sum_of_column(text: &str, name: &str) -> u64 {
    let mut lines = text.lines();
    let Some(column) = lines.next().and_then(|head| head.split_whitespace().position(|word| word == name)) else {
        return 0;
    };
    let value = |line: &str| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok();
    lines.filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_name() {
        let text = "Ip: Forwarding ForwDatagrams\nIp: 1 12\nIcmp: OutDestUnreachs\nIcmp: 3\n";
        let all = tables(text);
        assert_eq!((all.get("Ip:ForwDatagrams"), all.get("Icmp:OutDestUnreachs")), (Some(&12), Some(&3)));
        assert_eq!(words("Ip6OutForwDatagrams\t 7\nIp6x\n").get("Ip6OutForwDatagrams"), Some(&7));
    }

    #[test]
    fn drops_of_the_firewall_are_the_sum_over_the_cpus() {
        let text = "entries clashres found drop early_drop\n0000 00 00 0000000a 00\n0000 00 00 00000001 00\n";
        assert_eq!(sum_of_column(text, "drop"), 11);
        assert_eq!((sum_of_column("", "drop"), sum_of_column(text, "nothing")), (0, 0));
    }

    #[test]
    fn this_kernel_has_what_is_read() {
        let all = tables(&fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
        assert!(all.contains_key("Ip:ForwDatagrams") && all.contains_key("Icmp:OutDestUnreachs"));
        let all = words(&fs::read_to_string("/proc/thread-self/net/snmp6").unwrap());
        assert!(all.contains_key("Ip6OutForwDatagrams") && all.contains_key("Icmp6OutDestUnreachs"));
        assert!(settings(0).syncookies.is_some() && rp_filter("lo").is_some());
        assert_eq!(interface_of([127, 0, 0, 1].into()), Some(("lo".to_owned(), true)));
        assert_eq!(interface_of([192, 0, 2, 77].into()), None);
    }
}
