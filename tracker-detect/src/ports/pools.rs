//! Ports that are used once, whatever the destination: those that `bind()` chooses for an address, and those of UDP.

use super::{
    capacity::{PortCapacity, held, ratio},
    observation::{PortsObservation, UdpObservation},
};
use tracker_model::api::{BindPoolUse, UdpPorts};

/// The ports that `bind()` can choose, by source address (`inet_csk_find_open_port`,
/// `net/ipv4/inet_connection_sock.c`): those of the range that are not reserved and that no socket holds on that
/// address or on all addresses. Sockets that set `SO_REUSEADDR` try one half of the range first and then the other, and
/// so the same ports; with `net.ipv4.ip_autobind_reuse` they may share them, which is not counted.
pub(super) fn pools(seen: &PortsObservation, capacity: &PortCapacity) -> Vec<BindPoolUse> {
    let pool = |source: &super::SourceObservation| {
        let (in_use, bound) = held(&source.ports, &seen.bound, &seen.settings);
        let capacity = capacity.bindable.max(in_use);
        BindPoolUse {
            netns: seen.netns,
            source: source.address,
            in_use,
            bound,
            capacity,
            used_ratio: ratio(in_use, capacity),
            growth_per_second: None,
            full_in_seconds: (in_use >= capacity).then_some(0.0),
        }
    };
    seen.sources.iter().map(pool).collect()
}

/// The ports that the kernel can choose for a UDP socket (`udp_lib_get_port`, `net/ipv4/udp.c`): those of the range
/// that are not reserved and that no other socket holds in its way. A socket that is on no address yet, as each is that
/// calls `connect()` or `sendto()` first, meets those at every address; an IPv4 one all but those with `IPV6_V6ONLY`.
pub(super) fn udp(seen: &PortsObservation, capacity: &PortCapacity) -> UdpPorts {
    let UdpObservation { sockets, ephemeral, ports, ipv4_ports, processes } = &seen.udp;
    let choosable = seen.settings.choosable();
    let in_use = choosable.count_common(ports);
    let of = seen.settings.range_len() - capacity.reserved;
    UdpPorts {
        sockets: *sockets,
        ephemeral: *ephemeral,
        in_use,
        capacity: of,
        used_ratio: ratio(in_use, of),
        ipv4_in_use: choosable.count_common(ipv4_ports),
        growth_per_second: None,
        full_in_seconds: None,
        processes: processes.clone(),
    }
}
