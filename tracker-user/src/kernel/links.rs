//! The interfaces and local addresses of the namespace, by rtnetlink.

use std::{collections::BTreeMap, net::IpAddr};

use futures_util::TryStreamExt as _;
use rtnetlink::{
    Handle, MulticastGroup,
    packet_route::{
        AddressFamily,
        link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
    },
};
use tracker_common::listener::mapped;

use super::error::KernelError;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index, which the kernel does not reuse soon.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// How its packets begin.
    pub layer: Layer,
    /// Kind of virtual device, such as `veth`; none for hardware and virtio.
    pub kind: Option<String>,
    /// The interface below in this namespace, for VLANs, macvlans and the like.
    pub lower: Option<u32>,
    /// The bridge, bond or VRF it belongs to.
    pub controller: Option<u32>,
    /// Whether an XDP program is attached.
    pub has_xdp: bool,
}

/// How packets of an interface begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Loopback: Ethernet headers, no wire.
    Loopback,
    /// With an Ethernet header.
    Ethernet,
    /// With the IP header.
    Ip,
    /// In another way (`InfiniBand`, CAN and so on).
    Other,
}

/// A connection to rtnetlink.
pub struct Netlink {
    handle: Handle,
}

/// Notifications of changed links and addresses.
pub type Changes = futures_channel::mpsc::UnboundedReceiver<(
    rtnetlink::packet_core::NetlinkMessage<rtnetlink::packet_route::RouteNetlinkMessage>,
    rtnetlink::sys::SocketAddr,
)>;

impl Netlink {
    /// Connects, and subscribes to changes. Must run inside a Tokio runtime, in the namespace asked about.
    pub fn connect() -> Result<(Self, Changes), KernelError> {
        let fail = |error: std::io::Error| KernelError::Netlink(error.to_string());
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (listening, _, changes) = rtnetlink::new_multicast_connection(&groups).map_err(fail)?;
        let (asking, handle, _) = rtnetlink::new_connection_with_strict_check().map_err(fail)?;
        tokio::spawn(listening);
        tokio::spawn(asking);
        Ok((Self { handle }, changes))
    }

    /// All interfaces, by index.
    pub async fn links(&self) -> Result<BTreeMap<u32, Link>, KernelError> {
        let messages: Vec<_> = self.handle.link().get().execute().try_collect().await.map_err(failed)?;
        Ok(messages.into_iter().filter_map(link).map(|link| (link.index, link)).collect())
    }

    /// Prefixes whose packets are delivered to this host, in mapped form, by prefix length of 0 to 128.
    pub async fn local_prefixes(&self) -> Result<Vec<(u8, [u8; 16])>, KernelError> {
        let mut prefixes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            // The kernel filters: a router's table may have a million other routes.
            request.header.kind = RouteType::Local;
            let mut routes = std::pin::pin!(self.handle.route().get(request).execute());
            while let Some(route) = routes.try_next().await.map_err(failed)? {
                if route.header.kind == RouteType::Local {
                    prefixes.push(prefix(&route));
                }
            }
        }
        prefixes.sort_unstable();
        prefixes.dedup();
        Ok(prefixes)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an argument of map_err")]
fn failed(error: rtnetlink::Error) -> KernelError {
    KernelError::Netlink(error.to_string())
}

fn link(message: LinkMessage) -> Option<Link> {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        layer: layer(message.header.link_layer_type),
        kind: None,
        lower: None,
        controller: None,
        has_xdp: false,
    };
    let mut lower_is_elsewhere = false;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Link(index) if index != link.index && index != 0 => link.lower = Some(index),
            LinkAttribute::LinkNetNsId(_) => lower_is_elsewhere = true,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::Xdp(xdp) => {
                link.has_xdp =
                    xdp.iter().any(|xdp| matches!(xdp, LinkXdp::Attached(mode) if *mode != XdpAttached::None));
            }
            LinkAttribute::LinkInfo(info) => {
                link.kind = info.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(InfoKind::to_string(kind)),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    // IFLA_LINK of a veth is its peer, which is no lower device; with a namespace id the number is another's.
    if lower_is_elsewhere || link.kind.as_deref() == Some("veth") {
        link.lower = None;
    }
    (!link.name.is_empty()).then_some(link)
}

fn layer(kind: LinkLayerType) -> Layer {
    use LinkLayerType as Type;
    match kind {
        Type::Loopback => Layer::Loopback,
        Type::Ether => Layer::Ethernet,
        Type::None
        | Type::Rawip
        | Type::Ppp
        | Type::Tunnel
        | Type::Tunnel6
        | Type::Sit
        | Type::Ipgre
        | Type::Ip6gre => Layer::Ip,
        _ => Layer::Other,
    }
}

/// Destination of a route in mapped form.
fn prefix(route: &RouteMessage) -> (u8, [u8; 16]) {
    let length = route.header.destination_prefix_length;
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    match (address, route.header.address_family) {
        (Some(IpAddr::V4(address)), _) => (length + 96, mapped(address.octets())),
        (Some(IpAddr::V6(address)), _) => (length, address.octets()),
        (None, AddressFamily::Inet) => (96, mapped([0; 4])),
        (None, _) => (0, [0; 16]),
    }
}
