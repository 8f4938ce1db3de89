//! Whether a `bind()` would fail, and which sockets are in the way: `rules` says so, `text` and `advice` put it into
//! words. What `connect()` does with ports belongs to `connect`.

mod address;
mod advice;
mod request;
mod rules;
mod text;

use std::{cmp::Reverse, time::Duration};

use crate::ports::PortSettings;
use tracker_model::explain::{BindAnswer, BindError, Holder, SocketObservation, TcpState, Variants};

pub use self::request::BindRequest;
use self::rules::{BindContext, Conflict};

/// Sockets shown of those in the way.
const SHOWN: usize = 32;

/// Whether a `bind()` would fail now, and why.
///
/// `sockets` are those of the namespace that hold a local port, of either protocol and family; those of other ports may
/// be left out unless any port is asked for. `is_local` says whether an interface of the namespace has the address, or
/// the socket may do without (`IP_FREEBIND`, `IP_TRANSPARENT`, `net.ipv4.ip_nonlocal_bind`,
/// `net.ipv6.ip_nonlocal_bind`); it counts for nothing with wildcard and multicast addresses.
#[must_use]
pub fn explain_bind(
    request: &BindRequest,
    sockets: &[SocketObservation],
    settings: &PortSettings,
    is_local: bool,
) -> BindAnswer {
    let context = BindContext { sockets, settings, is_local };
    let error = context.error(request);
    let mut conflicts = if error == Some(BindError::InUse) { context.conflicts(request) } else { Vec::new() };
    conflicts.sort_by_key(|conflict| rank(conflict.socket));
    let rivals = if error.is_none() { context.listen_conflicts(request) } else { Vec::new() };
    let with = |reuse_address, reuse_port| context.error(&BindRequest { reuse_address, reuse_port, ..*request });
    BindAnswer {
        protocol: request.protocol,
        address: request.address,
        port: request.port,
        succeeds: error.is_none(),
        error,
        variants: Variants {
            plain: with(false, false),
            reuse_address: with(true, false),
            reuse_port: with(false, true),
        },
        holders: conflicts.iter().take(SHOWN).map(|conflict| holder(request, conflict)).collect(),
        holders_total: conflicts.len(),
        rivals: rivals.iter().take(SHOWN).map(|conflict| holder(request, conflict)).collect(),
        summary: text::summary(request, settings, error, &conflicts),
        advice: error.map_or_else(Vec::new, |error| advice::lines(request, &context, error, &conflicts)),
        notes: advice::notes(request, &context, error, &rivals),
    }
}

/// Those come first that stay until somebody does something; of `TIME_WAIT` the one that lasts longest.
fn rank(socket: &SocketObservation) -> (u8, Reverse<Option<Duration>>) {
    let kind = match socket.state {
        TcpState::Listen => 0,
        TcpState::Bound => 1,
        _ if !socket.is_minisocket() => 2,
        _ => 3,
    };
    (kind, Reverse(socket.remaining))
}

fn holder(request: &BindRequest, conflict: &Conflict<'_>) -> Holder {
    let Conflict { socket, overlap, rule } = conflict;
    Holder {
        state: socket.state,
        address: socket.address,
        port: socket.port,
        remote_address: socket.remote.map(|(address, _)| address),
        remote_port: socket.remote.map(|(_, port)| port),
        uid: (!socket.is_minisocket()).then_some(socket.uid),
        inode: (socket.inode != 0).then_some(socket.inode),
        reuse_address: socket.reuse_address,
        reuse_port: socket.reuse_port,
        ends_in_seconds: socket.remaining.map(|remaining| remaining.as_secs_f64()),
        processes: socket.processes.clone(),
        overlap: *overlap,
        rule: *rule,
        why: format!("{overlap}; {rule}"),
        kernel: rule.kernel(request.protocol).to_owned(),
    }
}
