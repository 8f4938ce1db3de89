//! The kernel's rules of `bind()`: whether it fails, and which sockets are in the way.

use std::{collections::HashSet, net::IpAddr};

use super::{address::overlap, request::BindRequest};
use crate::ports::PortSettings;
use tracker_model::explain::{BindError, Overlap, Protocol, Rule, SocketObservation, TcpState};

/// A socket in the way, and why.
#[derive(Clone, Copy)]
pub(super) struct Conflict<'a> {
    pub(super) socket: &'a SocketObservation,
    pub(super) overlap: Overlap,
    pub(super) rule: Rule,
}

/// What a `bind()` meets.
pub(super) struct BindContext<'a> {
    pub(super) sockets: &'a [SocketObservation],
    pub(super) settings: &'a PortSettings,
    pub(super) is_local: bool,
}

impl<'a> BindContext<'a> {
    /// How a `bind()` fails, in the kernel's order: an IPv4 socket is asked for its address first (`__inet_bind`,
    /// `net/ipv4/af_inet.c`), an IPv6 socket for its port (`__inet6_bind`, `net/ipv6/af_inet6.c`).
    pub(super) fn error(&self, request: &BindRequest) -> Option<BindError> {
        let port = request.port;
        let access =
            (port != 0 && port < self.settings.unprivileged_start && !request.privileged).then_some(BindError::Access);
        let early = if request.ipv6 {
            let invalid = is_invalid(request).then_some(BindError::Invalid);
            let multicast = request.address.to_canonical().is_ipv6() && request.address.is_multicast();
            // Multicast with TCP is refused before anything is looked at.
            let first = if multicast { invalid } else { None };
            first.or(access).or(invalid).or_else(|| self.not_available(request))
        } else {
            self.not_available(request).or(access)
        };
        early.or_else(|| self.is_held(request).then_some(BindError::InUse))
    }

    /// `inet_addr_valid_or_nonlocal`, and what `__inet6_bind` does instead of it.
    fn not_available(&self, request: &BindRequest) -> Option<BindError> {
        let address = request.address.to_canonical();
        let passes = self.is_local || address.is_unspecified() || address.is_multicast();
        (!passes).then_some(BindError::NotAvailable)
    }

    fn is_held(&self, request: &BindRequest) -> bool {
        if request.port == 0 {
            return !self.finds_any(request);
        }
        self.sockets.iter().any(|socket| conflict(request, socket).is_some())
    }

    /// The sockets in the way of a `bind()` to a port.
    pub(super) fn conflicts(&self, request: &BindRequest) -> Vec<Conflict<'a>> {
        if request.port == 0 {
            return Vec::new();
        }
        self.sockets.iter().filter_map(|socket| conflict(request, socket)).collect()
    }

    /// Whether a port of the range is free. TCP takes only one that no socket shares by address, whatever the options
    /// (`inet_csk_find_open_port`, which asks `inet_bind_conflict` with neither way of sharing); UDP one that `bind()`
    /// to the port would get (`udp_lib_get_port`).
    ///
    /// Of a range with an odd number of ports TCP passes over one; that nothing but that one is free is not modelled.
    fn finds_any(&self, request: &BindRequest) -> bool {
        let taken: HashSet<u16> = self
            .sockets
            .iter()
            .filter(|socket| {
                let asked = BindRequest { port: socket.port, ..*request };
                match request.protocol {
                    Protocol::Tcp => meets(&asked, socket).is_some(),
                    Protocol::Udp => conflict(&asked, socket).is_some(),
                }
            })
            .map(|socket| socket.port)
            .collect();
        self.settings.range().any(|port| self.settings.may_choose(port) && !taken.contains(&port))
    }

    /// Sockets that share the port until somebody listens: `listen()` asks for the port again
    /// (`inet_csk_listen_start`), and beside a listener `SO_REUSEADDR` does not count.
    pub(super) fn listen_conflicts(&self, request: &BindRequest) -> Vec<Conflict<'a>> {
        if request.protocol == Protocol::Udp || request.port == 0 {
            return Vec::new();
        }
        let rival = |socket: &'a SocketObservation| {
            let listening = SocketObservation { state: TcpState::Listen, ..socket.clone() };
            let Conflict { overlap, .. } = conflict(request, &listening)?;
            Some(Conflict { socket, overlap, rule: Rule::FirstToListen })
        };
        self.sockets
            .iter()
            .filter(|socket| socket.port == request.port && socket.state == TcpState::Bound)
            .filter_map(rival)
            .collect()
    }
}

/// What `__inet6_bind` answers with EINVAL.
fn is_invalid(request: &BindRequest) -> bool {
    match request.address.to_canonical() {
        IpAddr::V4(_) => request.ipv6_only,
        IpAddr::V6(address) if address.is_multicast() => request.protocol == Protocol::Tcp,
        IpAddr::V6(address) => address.is_unicast_link_local() && request.device == 0,
    }
}

/// Whether a socket is one that a `bind()` looks at, by protocol, port, device and address.
fn meets(request: &BindRequest, socket: &SocketObservation) -> Option<Overlap> {
    let same_port = request.protocol == socket.protocol && request.port == socket.port;
    // A half-open request is in no bind bucket: the port is its listener's.
    let holds = socket.state != TcpState::HalfOpen;
    let same_device = request.device == 0 || socket.device == 0 || request.device == socket.device;
    if same_port && holds && same_device { overlap(request, socket) } else { None }
}

/// Whether a socket is in the way, and why: `inet_bind_conflict` as `inet_csk_get_port` asks it, with both ways of
/// sharing; `udp_lib_lport_inuse`.
///
/// Of sockets with `SO_REUSEPORT` the kernel may compare with one only (`sk_reuseport_match`), and UDP stops at the
/// first with which it shares, whatever comes after. Which one that is cannot be seen: here any socket in the way
/// counts.
fn conflict<'a>(request: &BindRequest, socket: &'a SocketObservation) -> Option<Conflict<'a>> {
    let overlap = meets(request, socket)?;
    let same_user = request.uid == socket.uid || (request.protocol == Protocol::Tcp && socket.is_minisocket());
    let by_address = request.reuse_address && socket.reuse_address && !socket.listens();
    let both_reuse_port = request.reuse_port && socket.reuse_port;
    if by_address || (both_reuse_port && same_user) {
        return None;
    }
    let rule = if socket.reuse_address && !socket.listens() {
        Rule::NotAsked
    } else if both_reuse_port {
        Rule::OtherUser
    } else if socket.listens() {
        Rule::Listens
    } else {
        Rule::NotOffered
    };
    Some(Conflict { socket, overlap, rule })
}
