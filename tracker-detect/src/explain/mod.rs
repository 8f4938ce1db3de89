//! Whether `bind()` or `connect()` would fail now, which sockets are in the way, by which rule of the kernel, and what would
//! help. How the sockets are read and how the answer is printed does not belong here.
//!
//! The rules are those of Linux 6.18 (`net/ipv4/inet_connection_sock.c`, `inet_hashtables.c`, `udp.c`), each named where it
//! stands; the tests hold them against what that kernel did. Not modelled, for it cannot be seen from outside: ports of VRF
//! devices, options that were changed after `bind()`, BPF programs that refuse, and `IP_LOCAL_PORT_RANGE`, by which a
//! socket narrows the range for itself. `net.ipv4.ip_autobind_reuse` is taken to be 0, as by default.

mod address;
mod advice;
mod bind;
mod connect;
mod connect_text;
#[cfg(test)]
mod tests;
mod text;

pub use bind::{BindRequest, explain_bind};
pub use connect::explain_connect;
