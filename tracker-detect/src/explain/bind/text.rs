//! What an operator reads of a `bind()`.

use std::{fmt::Write, net::SocketAddr, time::Duration};

use super::{request::BindRequest, rules::Conflict};
use crate::ports::PortSettings;
use tracker_model::explain::{BindError, SocketObservation};

/// One line.
pub(super) fn summary(
    request: &BindRequest,
    settings: &PortSettings,
    error: Option<BindError>,
    conflicts: &[Conflict<'_>],
) -> String {
    let target = match request.port {
        0 => format!("{} {}, any port,", request.protocol, request.address),
        port => format!("{} {}", request.protocol, SocketAddr::new(request.address, port)),
    };
    let Some(error) = error else {
        return format!("{target} can be bound now");
    };
    let why = match error {
        BindError::InUse => in_use(conflicts),
        BindError::NotAvailable => "no interface of this network namespace has the address".to_owned(),
        BindError::Access => format!("ports below {} need CAP_NET_BIND_SERVICE", settings.unprivileged_start),
        BindError::Invalid => invalid(request).to_owned(),
    };
    format!("{target} cannot be bound ({}): {why}", error.name())
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

/// A socket: `LISTEN 0.0.0.0:80 of nginx (pid 812)`.
pub(super) fn socket(socket: &SocketObservation) -> String {
    let mut text = format!("{} {}", socket.state, socket.local());
    if let Some((address, port)) = socket.remote {
        let _ = write!(text, " to {}", SocketAddr::new(address, port));
    }
    if let Some(remaining) = socket.remaining {
        let _ = write!(text, " ({} left)", seconds(remaining));
    } else if let Some(process) = socket.processes.first() {
        let _ = write!(text, " of {process}");
    }
    text
}

/// Whole seconds, rounded up: no more is left.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}
