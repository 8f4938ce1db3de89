//! The usual lab: a client and a server on one link.

use std::time::Duration;

use anyhow::Result;

use crate::{
    link::{Link, Tag},
    namespace::Namespace,
    wire::WireOptions,
};

/// Two namespaces on one link. What a case measures is in the server's, or in the client's.
#[derive(Debug)]
pub struct Pair {
    // Dropped in this order: the wire before the devices that it joins.
    /// The link; its left end is the client's.
    pub link: Link,
    /// Where clients run. The server's default route, for answers to spoofed sources, leads here, where nobody answers.
    pub client: Namespace,
    /// Where servers run. The client's default route leads here.
    pub server: Namespace,
}

impl Pair {
    /// Joined by a veth pair.
    pub fn plain() -> Result<Self> {
        Self::joined(|client, server| Link::veth(client, server, 1))
    }

    /// Joined by a wire that tags what goes to the server: tagged once like a VLAN, twice like `QinQ`.
    pub fn tagged(tags: &[Tag]) -> Result<Self> {
        Self::wired(&WireOptions { tags: tags.to_vec(), ..WireOptions::default() })
    }

    /// Joined by a wire whose round trip takes `delay`.
    pub fn delayed(delay: Duration) -> Result<Self> {
        Self::wired(&WireOptions { delay, ..WireOptions::default() })
    }

    /// Joined by a wire.
    pub fn wired(options: &WireOptions) -> Result<Self> {
        Self::joined(|client, server| Link::wired(client, server, 1, options))
    }

    /// Joined by VLAN devices on a veth pair.
    pub fn vlan(tags: &[Tag]) -> Result<Self> {
        Self::joined(|client, server| Link::vlan(client, server, 1, tags))
    }

    fn joined(link: impl FnOnce(&Namespace, &Namespace) -> Result<Link>) -> Result<Self> {
        let (client, server) = (Namespace::new()?, Namespace::new()?);
        let link = link(&client, &server)?;
        for (namespace, end, peer) in [(&client, &link.left, &link.right), (&server, &link.right, &link.left)] {
            namespace.ip(&format!("route add default via {} dev {}", peer.ipv4, end.device))?;
            namespace.ip(&format!("-6 route add default via {} dev {}", peer.ipv6, end.device))?;
            // Room for thousands of connections, each with a port of its own, and for bursts of them.
            namespace.sysctl("net.ipv4.ip_local_port_range", "10000 65535")?;
            namespace.sysctl("net.ipv4.tcp_max_tw_buckets", "200000")?;
            namespace.sysctl("net.ipv4.tcp_max_syn_backlog", "8192")?;
            namespace.sysctl("net.core.somaxconn", "8192")?;
            // Nothing is lost, so what is slow is never repeated: no loss probes, and where the kernel lets us (since
            // Linux 6.11) no repeat before two seconds.
            namespace.sysctl("net.ipv4.tcp_early_retrans", "0")?;
            let _absent_before = namespace.sysctl("net.ipv4.tcp_rto_min_us", "2000000");
            // Errors by ICMP at once, however many.
            namespace.sysctl("net.ipv4.icmp_ratelimit", "0")?;
            namespace.sysctl("net.ipv6.icmp.ratelimit", "0")?;
        }
        Ok(Self { link, client, server })
    }
}
