//! What helps where a `bind()` fails, and what helps to know where it does not.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv6Addr},
};

use super::{
    request::BindRequest,
    rules::{BindContext, Conflict},
    text,
};
use crate::{advice, explain::processes};
use tracker_model::explain::{BindError, Overlap, Protocol, Rule, SocketObservation, TcpState};
use tracker_model::text::counted;

/// What to do.
pub(super) fn lines(
    request: &BindRequest,
    context: &BindContext<'_>,
    error: BindError,
    conflicts: &[Conflict<'_>],
) -> Vec<String> {
    match error {
        BindError::InUse if request.port == 0 => any_port(request, context),
        BindError::InUse => in_use(request, context, conflicts),
        BindError::NotAvailable => not_available(request),
        BindError::Access => vec![format!(
            "Give the process CAP_NET_BIND_SERVICE (AmbientCapabilities= of its systemd unit, or setcap), or sysctl \
             net.ipv4.ip_unprivileged_port_start={}.",
            request.port
        )],
        BindError::Invalid => vec![match request.address.to_canonical() {
            IpAddr::V4(_) => "Switch IPV6_V6ONLY off, or use an IPv4 socket.".to_owned(),
            IpAddr::V6(address) if address.is_multicast() => "Use UDP, or a unicast address.".to_owned(),
            IpAddr::V6(address) => format!("Name the device: {address}%eth0, or SO_BINDTODEVICE."),
        }],
    }
}

fn not_available(request: &BindRequest) -> Vec<String> {
    let (command, sysctl) = match request.address.to_canonical() {
        IpAddr::V4(_) => ("ip -4 address", "net.ipv4.ip_nonlocal_bind=1"),
        IpAddr::V6(_) => ("ip -6 address", "net.ipv6.ip_nonlocal_bind=1"),
    };
    vec![
        format!("See which addresses there are: {command}. Bind one of them, or the wildcard."),
        format!("If the address comes later, set IP_FREEBIND on the socket or sysctl {sysctl}."),
    ]
}

fn any_port(request: &BindRequest, context: &BindContext<'_>) -> Vec<String> {
    let is_tcp = request.protocol == Protocol::Tcp;
    let bind = is_tcp.then(|| advice::BIND_NO_PORT.to_owned());
    let settings = context.settings;
    let reserved = advice::reserved(settings.reserved_in_range());
    let more = Some(advice::MORE_SOURCES.to_owned());
    [bind, advice::widen(settings.range()), reserved, more].into_iter().flatten().collect()
}

fn in_use(request: &BindRequest, context: &BindContext<'_>, conflicts: &[Conflict<'_>]) -> Vec<String> {
    let all = [
        options(request, context, conflicts),
        owners(request, conflicts),
        users(request, conflicts),
        waits(context, conflicts),
        addresses(request, context, conflicts),
        reserve(request, context, conflicts),
    ];
    all.into_iter().flatten().collect()
}

/// The options that make it succeed, fewest first.
fn options(request: &BindRequest, context: &BindContext<'_>, conflicts: &[Conflict<'_>]) -> Option<String> {
    let succeeds =
        |reuse_address, reuse_port| context.error(&BindRequest { reuse_address, reuse_port, ..*request }).is_none();
    if !request.reuse_address && succeeds(true, request.reuse_port) {
        let waits = conflicts.iter().all(|conflict| conflict.socket.is_minisocket());
        let what = if waits { "TIME_WAIT does" } else { "the sockets that have the port do" };
        let bound = conflicts.iter().any(|conflict| conflict.socket.state == TcpState::Bound);
        let listen =
            if bound && request.protocol == Protocol::Tcp { " Only one of them can listen, though." } else { "" };
        return Some(format!("Set SO_REUSEADDR before bind(): {what} not stop it then.{listen}"));
    }
    if !request.reuse_port && succeeds(request.reuse_address, true) {
        return Some("Set SO_REUSEPORT before bind(): the others have it, and share the port.".to_owned());
    }
    let both = !request.reuse_address && !request.reuse_port && succeeds(true, true);
    both.then(|| "Set SO_REUSEADDR and SO_REUSEPORT before bind(): between them the others share the port.".to_owned())
}

/// The processes that have the port, and do not free it by themselves.
fn owners(request: &BindRequest, conflicts: &[Conflict<'_>]) -> Option<String> {
    let owners = || conflicts.iter().map(|conflict| conflict.socket).filter(|socket| !socket.is_minisocket());
    owners().next()?;
    let who = processes(owners()).unwrap_or_else(|| "whatever holds it (ss -tulpen as root)".to_owned());
    let listens = owners().any(SocketObservation::listens);
    let shares = owners().all(|socket| socket.reuse_port && socket.uid == request.uid);
    let mut line = format!("Stop {who}, or give one of the two another port.");
    if listens && !shares {
        line.push_str(" To share it, both must set SO_REUSEPORT before bind() and run as one user.");
    }
    Some(line)
}

fn users(request: &BindRequest, conflicts: &[Conflict<'_>]) -> Option<String> {
    let other = conflicts.iter().find(|conflict| conflict.rule == Rule::OtherUser)?;
    Some(format!(
        "SO_REUSEPORT is shared within one user: this socket is of uid {}, the other of uid {}.",
        request.uid, other.socket.uid
    ))
}

/// `TIME_WAIT` that does not share: only time helps, and the right option the next time.
fn waits(context: &BindContext<'_>, conflicts: &[Conflict<'_>]) -> Option<String> {
    let waits = conflicts
        .iter()
        .map(|conflict| conflict.socket)
        .filter(|socket| socket.is_minisocket() && !socket.reuse_address);
    let count = waits.clone().count();
    let last = waits.clone().filter_map(|socket| socket.remaining).max();
    if count == 0 {
        return None;
    }
    let mut line = format!("{} in TIME_WAIT", counted(count as u64, "connection"));
    line.push_str(if count == 1 { " was" } else { " were" });
    line.push_str(" opened without SO_REUSEADDR, so setting it now does not help there:");
    let last = last.map_or_else(|| "at most 60 s".to_owned(), text::seconds);
    let _ = write!(line, " the last ends in {last}.");
    if waits.clone().any(|socket| !is_from_connect(socket, context)) {
        line.push_str(" A server that sets it before every bind() can restart at once.");
    }
    Some(line)
}

/// Other addresses that are free.
fn addresses(request: &BindRequest, context: &BindContext<'_>, conflicts: &[Conflict<'_>]) -> Option<String> {
    let succeeds = |request: &BindRequest| context.error(request).is_none();
    let wildcard = request.address.is_unspecified();
    if wildcard && request.ipv6 && !request.ipv6_only && succeeds(&BindRequest { ipv6_only: true, ..*request }) {
        return Some("Set IPV6_V6ONLY before bind(): only IPv4 sockets are in the way.".to_owned());
    }
    let dual = |conflict: &Conflict<'_>| {
        conflict.overlap == Overlap::DualStack && conflict.socket.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    if conflicts.iter().all(dual) {
        return Some("Or set IPV6_V6ONLY on the IPv6 socket before its bind(): it leaves IPv4 alone then.".to_owned());
    }
    let one_each = conflicts.iter().all(|conflict| conflict.overlap == Overlap::AskedWildcard);
    (wildcard && one_each)
        .then(|| "Or bind one address instead of the wildcard, another than those in the way.".to_owned())
}

/// A port that the kernel may give to any `connect()` does not suit a server.
fn reserve(request: &BindRequest, context: &BindContext<'_>, conflicts: &[Conflict<'_>]) -> Option<String> {
    let port = request.port;
    let taken =
        context.settings.may_choose(port) && conflicts.iter().any(|conflict| is_from_connect(conflict.socket, context));
    taken.then(|| {
        format!(
            "The port is in net.ipv4.ip_local_port_range and connect() took it: keep it for the server, sysctl \
             net.ipv4.ip_local_reserved_ports={port} (add it to what is there)."
        )
    })
}

/// Whether `connect()` gave the socket its port: the bucket says so, or, where it is not known, nothing at the port is
/// listening or bound and the kernel may have chosen it.
fn is_from_connect(socket: &SocketObservation, context: &BindContext<'_>) -> bool {
    let guess = || {
        let at_port = |other: &&SocketObservation| other.protocol == socket.protocol && other.port == socket.port;
        context.settings.may_choose(socket.port)
            && !context.sockets.iter().filter(at_port).any(SocketObservation::is_bound)
    };
    let connected = socket.remote.is_some() && socket.state != TcpState::HalfOpen;
    connected && socket.bucket.map_or_else(guess, |bucket| !bucket.is_bound())
}

/// What else helps to know.
pub(super) fn notes(
    request: &BindRequest,
    context: &BindContext<'_>,
    error: Option<BindError>,
    rivals: &[Conflict<'_>],
) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(rival) = rivals.first() {
        notes.push(format!(
            "{} shares the port and does not listen yet: the first to call listen() has it, the other gets EADDRINUSE.",
            text::socket(rival.socket)
        ));
    }
    if error == Some(BindError::InUse) && is_shortcut(request, context) {
        notes.push(
            "With SO_REUSEPORT the kernel may compare with only one of the sockets that have it, and let this one in \
             nevertheless."
                .to_owned(),
        );
    }
    let other = |socket: &&SocketObservation| socket.protocol != request.protocol && socket.port == request.port;
    if request.port != 0 && context.sockets.iter().any(|socket| other(&socket)) {
        let name = if request.protocol == Protocol::Tcp { Protocol::Udp } else { Protocol::Tcp };
        notes.push(format!("{name} sockets have the same port and are not in the way: TCP and UDP ports are apart."));
    }
    if error.is_none() && request.port != 0 && context.settings.may_choose(request.port) {
        notes.push(
            "The port is in net.ipv4.ip_local_port_range: any connect() may take it before a server is back. Reserve \
             it with net.ipv4.ip_local_reserved_ports."
                .to_owned(),
        );
    }
    notes
}

/// Whether the kernel may stop at a socket that shares, before it meets one that does not (`sk_reuseport_match`,
/// `udp_lib_lport_inuse`): which one it looks at first is not known.
fn is_shortcut(request: &BindRequest, context: &BindContext<'_>) -> bool {
    let shares = |socket: &SocketObservation| {
        socket.protocol == request.protocol
            && socket.port == request.port
            && socket.reuse_port
            && (socket.uid == request.uid || socket.is_minisocket())
    };
    request.reuse_port && request.port != 0 && context.sockets.iter().any(shares)
}
