//! Whether `bind()` or `connect()` would fail now, why nobody can connect to a port, which sockets are in the way, by
//! which rule of the kernel, and what would help. How the sockets are read and how the answer is printed does not
//! belong here.
//!
//! The rules are those of Linux 6.18 (`net/ipv4/inet_connection_sock.c`, `inet_hashtables.c`, `udp.c`), each named
//! where it is modelled; the tests compare them with what that kernel did. Not modelled, because it cannot be seen from
//! outside: ports of VRF devices, options that were changed after `bind()`, BPF programs that refuse, and
//! `IP_LOCAL_PORT_RANGE` of the socket that is asked about, unless all connections to its destination have set it.
//! `net.ipv4.ip_autobind_reuse` is assumed to be 0, its default.

mod bind;
mod connect;
pub mod listen;
#[cfg(test)]
mod tests;

use tracker_model::{explain::SocketObservation, process::Process};

pub use bind::{BindRequest, explain_bind};
pub use connect::explain_connect;
pub use listen::explain_listen;

/// The distinct processes of some sockets: `nginx (pid 812), haproxy (pid 9) and 2 more`; none if none is known.
fn processes<'a>(sockets: impl Iterator<Item = &'a SocketObservation>) -> Option<String> {
    let mut known: Vec<&Process> = Vec::new();
    for process in sockets.flat_map(|socket| &socket.processes) {
        if !known.iter().any(|other| other.pid == process.pid) {
            known.push(process);
        }
    }
    let named: Vec<String> = known.iter().take(3).map(ToString::to_string).collect();
    match known.len() {
        0 => None,
        1..=3 => Some(named.join(", ")),
        count => Some(format!("{} and {} more", named.join(", "), count - named.len())),
    }
}
