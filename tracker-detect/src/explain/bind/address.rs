//! When two local addresses are one to `bind()`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tracker_model::explain::{Overlap, Protocol, SocketObservation};

use super::request::BindRequest;

/// What the kernel keeps as the IPv4 address of a socket that has an IPv6 address (`LOOPBACK4_IPV6`,
/// `include/net/ipv6.h`).
const IPV4_OF_IPV6: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);

/// A local address as the kernel compares it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KernelAddress {
    /// That of an IPv4 socket, or a mapped one.
    Ipv4(Ipv4Addr),
    /// `::`.
    Ipv6Any,
    /// Any other.
    Ipv6(Ipv6Addr),
}

impl KernelAddress {
    fn new(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::Ipv4(address),
            IpAddr::V6(address) if address.is_unspecified() => Self::Ipv6Any,
            IpAddr::V6(address) => Self::Ipv6(address),
        }
    }

    /// `sk_rcv_saddr`.
    const fn ipv4(self) -> Ipv4Addr {
        match self {
            Self::Ipv4(address) => address,
            Self::Ipv6Any => Ipv4Addr::UNSPECIFIED,
            Self::Ipv6(_) => IPV4_OF_IPV6,
        }
    }

    const fn is_ipv4(self) -> bool {
        matches!(self, Self::Ipv4(_))
    }

    const fn is_wildcard(self) -> bool {
        self.ipv4().is_unspecified()
    }
}

/// Whether a request and a socket of the same port are in each other's way by address, and how.
pub(super) fn overlap(request: &BindRequest, socket: &SocketObservation) -> Option<Overlap> {
    let (asked, held) = (KernelAddress::new(request.address), KernelAddress::new(socket.address));
    let meet = match asked {
        KernelAddress::Ipv4(asked) => ipv4_meets(request, asked, held, socket.ipv6_only),
        _ => ipv6_meets(asked, request.ipv6_only, held),
    };
    meet.then(|| kind(asked, held))
}

/// `ipv6_rcv_saddr_equal`, where what is asked for is no mapped address.
fn ipv6_meets(asked: KernelAddress, asked_only: bool, held: KernelAddress) -> bool {
    match (asked, held) {
        (_, KernelAddress::Ipv6Any) => true,
        (KernelAddress::Ipv6Any, _) => !(asked_only && held.is_ipv4()),
        _ => asked == held,
    }
}

/// `ipv4_rcv_saddr_equal`, and `ipv6_rcv_saddr_equal` for mapped addresses.
///
/// Only an IPv4 socket meets the 127.0.0.6 of IPv6 sockets, and with TCP only when it asks for the wildcard: for one
/// address just the sockets of that address and of the wildcards are looked at (`inet_bhash2_conflict`,
/// `inet_bhash2_addr_any_conflict`).
fn ipv4_meets(request: &BindRequest, asked: Ipv4Addr, held: KernelAddress, held_only: bool) -> bool {
    let is_ipv6 = matches!(held, KernelAddress::Ipv6(_));
    if is_ipv6 && (request.ipv6 || (request.protocol == Protocol::Tcp && !asked.is_unspecified())) {
        return false;
    }
    !held_only && (asked == held.ipv4() || asked.is_unspecified() || held.is_wildcard())
}

/// How they meet, given that they do.
fn kind(asked: KernelAddress, held: KernelAddress) -> Overlap {
    match (asked, held) {
        (KernelAddress::Ipv6Any, KernelAddress::Ipv4(_)) | (KernelAddress::Ipv4(_), KernelAddress::Ipv6Any) => {
            Overlap::DualStack
        }
        (KernelAddress::Ipv4(_), KernelAddress::Ipv6(_)) => Overlap::Ipv6Connection,
        _ if asked == held => Overlap::SameAddress,
        _ if held.is_wildcard() => Overlap::HeldWildcard,
        _ => Overlap::AskedWildcard,
    }
}
