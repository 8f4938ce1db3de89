//! The interfaces and local addresses of the namespace, by rtnetlink.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fmt::Display,
    net::IpAddr,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Handle, MulticastGroup,
    packet_route::{
        AddressFamily,
        link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
    },
};
use tokio::{sync::watch, time::Instant};
use tracker_common::listener::mapped;

use super::error::KernelError;

/// Changes of interfaces come in bursts; they are looked at together after this time.
const SETTLE: Duration = Duration::from_millis(50);
/// Interfaces and addresses are listed this often without a notification: one may be lost, and routes that make other
/// addresses local bring none that is subscribed to.
pub const RESYNC: Duration = Duration::from_secs(30);
/// Between the end of the notifications and the first try to subscribe again; it doubles up to [`RESYNC`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The kernel must have answered after this time.
const ANSWER: Duration = Duration::from_secs(10);

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

/// What there is at one moment.
#[derive(Clone, Default)]
pub struct Listing {
    /// All interfaces, by index.
    pub links: BTreeMap<u32, Link>,
    /// Prefixes whose packets are delivered to this host, in mapped form, by prefix length of 0 to 128.
    pub local_prefixes: BTreeSet<(u8, [u8; 16])>,
    /// Nobody says when this changes.
    pub notifications_lost: bool,
}

/// Lists interfaces and local addresses when the kernel notifies of a change, and from time to time.
pub struct LinkWatcher {
    netlink: Netlink,
    notifications: Notifications<fn() -> Result<Changes, KernelError>>,
}

impl LinkWatcher {
    /// Subscribes to changes. Must run inside a Tokio runtime, in the namespace that is to be watched.
    pub fn connect() -> Result<Self, KernelError> {
        let subscribe: fn() -> _ = subscribe;
        Ok(Self { notifications: Notifications::open(subscribe)?, netlink: Netlink::connect()? })
    }

    /// Lists what there is now.
    pub async fn list(&mut self) -> Result<Listing, KernelError> {
        let netlink = &self.netlink;
        let listed = async { Ok((netlink.links().await?, netlink.local_prefixes().await?)) };
        match in_time(listed).await {
            Ok((links, local_prefixes)) => {
                Ok(Listing { links, local_prefixes, notifications_lost: self.notifications.are_lost() })
            }
            Err(error) => {
                // A connection that failed once may never answer again.
                self.netlink = Netlink::connect()?;
                Err(error)
            }
        }
    }

    /// Goes on for ever. What cannot be listed is logged, and listed again later.
    pub async fn follow(&mut self, listings: &watch::Sender<Listing>) -> Infallible {
        let mut resync = tokio::time::interval(RESYNC);
        resync.tick().await;
        loop {
            tokio::select! {
                () = self.notifications.next() => self.settle().await,
                // Notifications too may get lost: a burst of changes overflows the socket.
                _ = resync.tick() => {}
            }
            match self.list().await {
                Ok(listing) => drop(listings.send_replace(listing)),
                Err(error) => {
                    tracing::warn!("list interfaces and local addresses: {error}");
                    listings.send_modify(|listing| listing.notifications_lost = self.notifications.are_lost());
                }
            }
        }
    }

    /// Waits a moment for further changes.
    async fn settle(&mut self) {
        let more = async {
            loop {
                self.notifications.next().await;
            }
        };
        // It always ends so.
        let _: Result<(), _> = tokio::time::timeout(SETTLE, more).await;
    }
}

/// What netlink answers, unless it takes too long.
async fn in_time<T>(answer: impl Future<Output = Result<T, KernelError>>) -> Result<T, KernelError> {
    let timed_out = |_| Err(KernelError::Netlink(format!("no answer within {} s", ANSWER.as_secs())));
    tokio::time::timeout(ANSWER, answer).await.unwrap_or_else(timed_out)
}

/// Notifications, subscribed to again when they end.
struct Notifications<O> {
    subscribe: O,
    changes: Option<Changes>,
    retry_at: Instant,
    pause: Duration,
}

impl<O: FnMut() -> Result<Changes, KernelError>> Notifications<O> {
    fn open(mut subscribe: O) -> Result<Self, KernelError> {
        let changes = Some(subscribe()?);
        Ok(Self { subscribe, changes, retry_at: Instant::now(), pause: FIRST_PAUSE })
    }

    fn are_lost(&self) -> bool {
        self.changes.is_none()
    }

    /// Waits for the next change. The end of the notifications is one too, and so is that they come again.
    async fn next(&mut self) {
        if let Some(changes) = &mut self.changes {
            if changes.next().await.is_some() {
                self.pause = FIRST_PAUSE;
            } else {
                self.changes = None;
                self.retry_later("they ended");
            }
            return;
        }
        loop {
            tokio::time::sleep_until(self.retry_at).await;
            match (self.subscribe)() {
                Ok(changes) => {
                    tracing::info!("notifications of interfaces: subscribed again");
                    self.changes = Some(changes);
                    return;
                }
                Err(error) => self.retry_later(&error.to_string()),
            }
        }
    }

    fn retry_later(&mut self, why: &str) {
        tracing::error!("notifications of interfaces: {why}; the next try is in {} s", self.pause.as_secs());
        self.retry_at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(RESYNC);
    }
}

/// Notifications of changed links and addresses.
type Changes = futures_channel::mpsc::UnboundedReceiver<(
    rtnetlink::packet_core::NetlinkMessage<rtnetlink::packet_route::RouteNetlinkMessage>,
    rtnetlink::sys::SocketAddr,
)>;

fn subscribe() -> Result<Changes, KernelError> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let (connection, _, changes) = rtnetlink::new_multicast_connection(&groups).map_err(failed)?;
    tokio::spawn(connection);
    Ok(changes)
}

/// A connection to rtnetlink.
struct Netlink {
    handle: Handle,
}

impl Netlink {
    fn connect() -> Result<Self, KernelError> {
        let (connection, handle, _) = rtnetlink::new_connection_with_strict_check().map_err(failed)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    async fn links(&self) -> Result<BTreeMap<u32, Link>, KernelError> {
        let messages: Vec<_> = self.handle.link().get().execute().try_collect().await.map_err(failed)?;
        Ok(messages.into_iter().filter_map(link).map(|link| (link.index, link)).collect())
    }

    async fn local_prefixes(&self) -> Result<BTreeSet<(u8, [u8; 16])>, KernelError> {
        let mut prefixes = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            // The kernel filters: a router's table may have a million other routes.
            request.header.kind = RouteType::Local;
            let mut routes = std::pin::pin!(self.handle.route().get(request).execute());
            while let Some(route) = routes.try_next().await.map_err(failed)? {
                if route.header.kind == RouteType::Local {
                    prefixes.insert(prefix(&route));
                }
            }
        }
        Ok(prefixes)
    }
}

fn failed(error: impl Display) -> KernelError {
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

#[cfg(test)]
mod tests {
    use rtnetlink::{
        packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload},
        sys::SocketAddr,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_kernel_that_does_not_answer_is_waited_for_ten_seconds() {
        let begun = Instant::now();
        let error = in_time(std::future::pending::<Result<(), _>>()).await.unwrap_err();
        assert!(error.to_string().contains("no answer within 10 s"), "{error}");
        assert_eq!((begun.elapsed(), in_time(async { Ok(7) }).await.unwrap()), (ANSWER, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn notifications_that_end_are_opened_again_with_growing_pauses_and_stop_no_timer() {
        let opened = std::cell::Cell::new(0);
        let subscribe = || {
            opened.set(opened.get() + 1);
            // Every third try is refused; the others give a stream that has ended.
            if opened.get() % 3 == 0 {
                return Err(KernelError::Netlink("no buffer space".into()));
            }
            Ok(futures_channel::mpsc::unbounded().1)
        };
        let mut notifications = Notifications::open(subscribe).unwrap();
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let (mut ticks, mut changes) = (0, 0);
        while ticks < 600 {
            tokio::select! {
                _ = tick.tick() => ticks += 1,
                () = notifications.next() => changes += 1,
            }
        }
        assert!((20..40).contains(&opened.get()), "{} tries in ten minutes", opened.get());
        assert!(changes < 2 * opened.get(), "{changes} changes of {} streams", opened.get());
    }

    #[tokio::test(start_paused = true)]
    async fn notifications_that_come_again_are_no_longer_lost() {
        let (sender, receiver) = futures_channel::mpsc::unbounded();
        let mut streams = vec![receiver, futures_channel::mpsc::unbounded().1];
        let mut notifications = Notifications::open(move || Ok(streams.pop().unwrap())).unwrap();
        notifications.next().await;
        assert!(notifications.are_lost());
        notifications.next().await;
        assert!(!notifications.are_lost());
        let change = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::Overrun(Vec::new()));
        sender.unbounded_send((change, SocketAddr::new(0, 0))).unwrap();
        notifications.next().await;
        assert_eq!(notifications.pause, FIRST_PAUSE);
    }

    #[tokio::test]
    async fn what_the_kernel_has_is_listed() {
        let listing = LinkWatcher::connect().unwrap().list().await.unwrap();
        assert!(listing.links.values().any(|link| link.layer == Layer::Loopback));
        assert!(!listing.notifications_lost);
    }
}
