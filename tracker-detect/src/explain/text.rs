//! What an operator reads.

use std::{fmt::Write, net::SocketAddr, time::Duration};

use super::{BindRequest, bind::Conflict};
use crate::ports::PortSettings;
use tracker_model::explain::{BindError, SocketSeen};
use tracker_model::process::Process;

/// One line on a `bind()`.
pub(super) fn bind_summary(
    request: &BindRequest,
    settings: &PortSettings,
    error: Option<BindError>,
    conflicts: &[Conflict<'_>],
) -> String {
    let target = target(request);
    let Some(error) = error else {
        return format!("{target} can be bound now");
    };
    let mut line = format!("{target} cannot be bound ({}): ", error.name());
    match error {
        BindError::InUse => line.push_str(&in_use(conflicts)),
        BindError::NotAvailable => line.push_str("no interface of this network namespace has the address"),
        BindError::Access => {
            let _ = write!(line, "ports below {} need CAP_NET_BIND_SERVICE", settings.unprivileged_start);
        }
        BindError::Invalid => line.push_str(invalid(request)),
    }
    line
}

fn in_use(conflicts: &[Conflict<'_>]) -> String {
    let Some(first) = conflicts.first() else {
        return "every port of net.ipv4.ip_local_port_range is held".to_owned();
    };
    let mut line = format!("held by {}", socket(first.socket));
    if conflicts.len() > 1 {
        let _ = write!(line, " and {} more", conflicts.len() - 1);
    }
    line
}

fn invalid(request: &BindRequest) -> &'static str {
    if request.address.to_canonical().is_ipv4() {
        "an IPv4 address is not for a socket with IPV6_V6ONLY"
    } else if request.address.is_multicast() {
        "a multicast address is not for TCP"
    } else {
        "a link-local address needs a device (its scope id)"
    }
}

/// What is asked for: `TCP 0.0.0.0:80`.
pub(super) fn target(request: &BindRequest) -> String {
    match request.port {
        0 => format!("{} {}, any port,", request.protocol, request.address),
        port => format!("{} {}", request.protocol, SocketAddr::new(request.address, port)),
    }
}

/// A socket: `LISTEN 0.0.0.0:80 of nginx (pid 812)`.
pub(super) fn socket(socket: &SocketSeen) -> String {
    let mut text = format!("{} {}", socket.state, socket.local());
    if let Some((address, port)) = socket.remote {
        let _ = write!(text, " to {}", SocketAddr::new(address, port));
    }
    if let Some(remaining) = socket.remaining {
        let _ = write!(text, " ({} left)", seconds(remaining));
    } else if let Some(process) = socket.processes.first() {
        let _ = write!(text, " of {}", of(process));
    }
    text
}

/// A process: `nginx (pid 812)`.
pub(super) fn of(process: &Process) -> String {
    format!("{} (pid {})", process.comm, process.pid)
}

/// The distinct processes of some sockets: `nginx (pid 812), haproxy (pid 9) and 2 more`; none if none is known.
pub(super) fn processes<'a>(sockets: impl Iterator<Item = &'a SocketSeen>) -> Option<String> {
    let mut known: Vec<&Process> = Vec::new();
    for process in sockets.flat_map(|socket| &socket.processes) {
        if !known.iter().any(|other| other.pid == process.pid) {
            known.push(process);
        }
    }
    let named: Vec<String> = known.iter().take(3).map(|process| of(process)).collect();
    match known.len() {
        0 => None,
        1..=3 => Some(named.join(", ")),
        count => Some(format!("{} and {} more", named.join(", "), count - named.len())),
    }
}

/// Whole seconds, rounded up: what is left lasts at most so long.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}
