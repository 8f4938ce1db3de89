//! Cables between two namespaces.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

pub use crate::wire::Tag;
use crate::{
    Family, command,
    namespace::Namespace,
    wire::{Wire, WireOptions},
};

/// One end of a link: a device with an IPv4 and an IPv6 address.
#[derive(Clone, Debug)]
pub struct End {
    /// Name of the namespace.
    pub namespace: String,
    /// Name of the device that carries the addresses.
    pub device: String,
    /// Ethernet address.
    pub mac: [u8; 6],
    /// IPv4 address, in a /24.
    pub ipv4: Ipv4Addr,
    /// IPv6 address, in a /64.
    pub ipv6: Ipv6Addr,
}

impl End {
    fn new(namespace: &Namespace, device: &str, subnet: u8, host: u8) -> Self {
        Self {
            namespace: namespace.name().to_owned(),
            device: device.to_owned(),
            mac: [0x02, 0x77, 0, 0, subnet, host],
            ipv4: Ipv4Addr::new(10, 77, subnet, host),
            ipv6: Ipv6Addr::new(0xfd77, 0, 0, subnet.into(), 0, 0, 0, host.into()),
        }
    }

    /// The address of a family.
    #[must_use]
    pub fn ip(&self, family: Family) -> IpAddr {
        match family {
            Family::Ipv4 => self.ipv4.into(),
            Family::Ipv6 => self.ipv6.into(),
        }
    }

    /// The address of a family with a port.
    #[must_use]
    pub fn socket(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(family), port)
    }

    fn mac_text(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }

    /// Puts the device up with its addresses. The peer's Ethernet address is written down, so that neither ARP nor
    /// neighbour discovery delays a first packet.
    fn bring_up(&self, namespace: &Namespace, peer: &Self) -> Result<()> {
        let Self { device, ipv4, ipv6, .. } = self;
        namespace.ip(&format!("link set {device} address {} up", self.mac_text()))?;
        namespace.ip(&format!("addr add {ipv4}/24 dev {device}"))?;
        namespace.ip(&format!("addr add {ipv6}/64 dev {device} nodad"))?;
        for family in Family::BOTH {
            let (ip, mac) = (peer.ip(family), peer.mac_text());
            namespace.ip(&format!("neigh replace {ip} lladdr {mac} dev {device} nud permanent"))?;
        }
        Ok(())
    }
}

/// Two joined devices. They vanish with their namespaces.
#[derive(Debug)]
pub struct Link {
    /// The end in the first namespace.
    pub left: End,
    /// The end in the second namespace.
    pub right: End,
    wire: Option<(Wire, Namespace)>,
}

impl Link {
    /// A veth pair, called `lan` and the subnet's number on both ends.
    pub fn veth(left: &Namespace, right: &Namespace, subnet: u8) -> Result<Self> {
        let device = format!("lan{subnet}");
        pair(left, &device, right, &device)?;
        Self::address(left, right, &device, subnet, None)
    }

    /// A veth pair with VLAN devices stacked on both ends, the outermost tag first; the addresses are on the innermost
    /// devices. Needs a kernel with `CONFIG_VLAN_8021Q`, see [`has_vlan_devices`].
    pub fn vlan(left: &Namespace, right: &Namespace, subnet: u8, tags: &[Tag]) -> Result<Self> {
        let mut device = format!("lan{subnet}");
        pair(left, &device, right, &device)?;
        for tag in tags {
            let stacked = format!("{device}.{}", tag.vlan);
            for namespace in [left, right] {
                namespace.ip(&format!("link set {device} up"))?;
                let (protocol, vlan) = (tag.protocol(), tag.vlan);
                namespace.ip(&format!("link add link {device} name {stacked} type vlan proto {protocol} id {vlan}"))?;
            }
            device = stacked;
        }
        Self::address(left, right, &device, subnet, None)
    }

    /// Two veth pairs joined by a [`Wire`] of our own, which can tag and delay; `right` is the side that tags go to.
    pub fn wired(left: &Namespace, right: &Namespace, subnet: u8, options: &WireOptions) -> Result<Self> {
        let device = format!("lan{subnet}");
        let middle = Namespace::new()?;
        middle.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        pair(left, &device, &middle, "left")?;
        pair(&middle, "right", right, &device)?;
        middle.ip("link set left up")?;
        middle.ip("link set right up")?;
        let wire = Wire::join(&middle, "left", "right", options)?;
        Self::address(left, right, &device, subnet, Some((wire, middle)))
    }

    fn address(
        left: &Namespace,
        right: &Namespace,
        device: &str,
        subnet: u8,
        wire: Option<(Wire, Namespace)>,
    ) -> Result<Self> {
        let link = Self { left: End::new(left, device, subnet, 1), right: End::new(right, device, subnet, 2), wire };
        link.left.bring_up(left, &link.right)?;
        link.right.bring_up(right, &link.left)?;
        Ok(link)
    }

    /// The wire in the middle, where there is one.
    #[must_use]
    pub fn wire(&self) -> Option<&Wire> {
        self.wire.as_ref().map(|(wire, _)| wire)
    }
}

fn pair(left: &Namespace, left_device: &str, right: &Namespace, right_device: &str) -> Result<()> {
    let (left, right) = (left.name(), right.name());
    let words =
        ["link", "add", left_device, "netns", left, "type", "veth", "peer", "name", right_device, "netns", right];
    command::run("ip", words).with_context(|| format!("veth pair from {left} to {right}"))
}

/// Whether the kernel has VLAN devices. It must say itself, in its configuration, that it has none.
pub fn has_vlan_devices() -> Result<bool> {
    let probe = Namespace::new()?;
    probe.ip("link add probe type veth peer name eborp")?;
    let Err(error) = probe.ip("link add link probe name probe.10 type vlan id 10") else { return Ok(true) };
    let read = "zcat /proc/config.gz 2>/dev/null || cat /boot/config-$(uname -r)";
    let configuration = command::stdout_of(Command::new("sh").args(["-c", read]))?;
    let is_off = configuration.contains("# CONFIG_VLAN_8021Q is not set");
    ensure!(is_off, "this kernel should have VLAN devices: {error:#}");
    Ok(false)
}
