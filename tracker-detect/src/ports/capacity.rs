//! How many ports there are to choose from, and which are taken again: the kernel's rules.

use std::net::IpAddr;

use super::settings::{PortSet, PortSettings, TwReuse};
use tracker_model::api::PortRange;

/// The ports of a network namespace that `connect()` can choose for a new destination, and why others are not among
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortCapacity {
    /// Ports of the range that are reserved.
    pub reserved: u32,
    /// Other ports of the range that are bound.
    pub bound: u32,
    /// Ports that one attempt tries.
    pub free_for_all: u32,
    /// Ports that one attempt of `bind()` tries: bound ones count.
    pub bindable: u32,
}

impl PortCapacity {
    /// Counts them.
    ///
    /// `connect()` passes over ports that are reserved and over those that were bound by `bind()`, whatever their
    /// address and destination (`__inet_hash_connect`, `net/ipv4/inet_hashtables.c`). `bind()` with port 0 passes over
    /// reserved ones and over those held on its address (`inet_csk_find_open_port`, `net/ipv4/inet_connection_sock.c`).
    ///
    /// Both try an even number of ports: of a range of an odd number, `remaining &= ~1` leaves one out. That is the
    /// lowest, or the highest in the rare case that the attempt begins with the lowest. So the lowest is taken to be
    /// out unless it would be passed over anyway.
    #[must_use]
    pub fn new(settings: &PortSettings, bound: &PortSet) -> Self {
        let range = settings.range_len();
        let reserved = settings.reserved_in_range();
        let taken = settings.choosable().count_common(bound);
        let odd = range > 1 && !range.is_multiple_of(2) && !settings.reserved.contains(settings.low);
        let bindable = range - reserved - u32::from(odd);
        let free_for_all = range - reserved - taken - u32::from(odd && !bound.contains(settings.low));
        Self { reserved, bound: taken, free_for_all, bindable }
    }

    /// Ports that one attempt tries of a range that the socket has set for itself (`IP_LOCAL_PORT_RANGE`): all of it
    /// that is neither reserved nor bound. None is left out of an odd number since Linux 6.8 (commit 207184853dbd).
    pub(crate) fn free_in(range: PortRange, settings: &PortSettings, bound: &PortSet) -> u32 {
        let ports = settings.within(range).choosable();
        ports.count() - ports.count_common(bound)
    }
}

/// A share of a whole; all of nothing is 1: when there is no port to choose from every `connect()` fails.
pub(crate) fn ratio(part: u32, whole: u32) -> f64 {
    if whole == 0 { 1.0 } else { f64::from(part.min(whole)) / f64::from(whole) }
}

/// Whether `connect()` between these addresses may take a port in `TIME_WAIT` at all (`tcp_twsk_unique`,
/// `net/ipv4/tcp_ipv4.c`). Sockets that are bound to the interface lo also may where it is [`TwReuse::Loopback`]; that
/// is not looked at.
#[must_use]
pub fn may_reuse(reuse: TwReuse, source: IpAddr, destination: IpAddr) -> bool {
    match reuse {
        TwReuse::Off => false,
        TwReuse::On => true,
        TwReuse::Loopback => is_loopback(source) || is_loopback(destination),
    }
}

/// 127.0.0.0/8, `::1`, and the former written as IPv6.
pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Ports of a source address that are in use, and those of them that are bound, of the range and not reserved.
pub(super) fn held(ports: &PortSet, bound: &PortSet, settings: &PortSettings) -> (u32, u32) {
    let open = settings.choosable().intersection(ports);
    (open.count(), open.count_common(bound))
}
